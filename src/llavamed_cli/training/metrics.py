"""`metrics.jsonl`: a line for each step that is done, and the same figures to a tracker where one is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llavamed_cli.errors import UsageError
from llavamed_cli.files import atomic_write, json_line
from llavamed_cli.training.recipe import nearest

METRICS_FILE = "metrics.jsonl"
PROJECT = "llavamed"


class Metrics:
    """The figures of a run's steps, in `out`."""

    def __init__(self, out: Path, tracker: Tracker | None = None) -> None:
        self._file = out / METRICS_FILE
        self._tracker = tracker

    def record(self, figures: Mapping[str, Any]) -> None:
        """Add a step's line."""
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json_line(dict(figures)))
        if self._tracker is not None:
            self._tracker.log(figures)

    def cut(self, done: int) -> None:
        """Drop the lines of steps beyond `done`, which will be run again, and a torn last line."""
        if self._file.is_file():
            self._write([figures for figures in read_metrics(self._file) if figures["step"] <= done])

    def amend(self, figures: Mapping[str, Any]) -> None:
        """Add figures to the last line."""
        *before, last = read_metrics(self._file)
        self._write([*before, {**last, **figures}])
        if self._tracker is not None:
            self._tracker.log({"step": last["step"], **figures})

    def _write(self, steps: list[dict[str, Any]]) -> None:
        with atomic_write(self._file) as stream:
            stream.writelines(json_line(figures) for figures in steps)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The steps recorded in a metrics.jsonl; a torn last line is left out."""
    steps: list[dict[str, Any]] = []
    if not path.is_file():
        return steps
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            steps.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return steps


class Tracker:
    """A tracker that accelerate knows (tensorboard, wandb, mlflow, ...); a file tracker writes into `out`."""

    def __init__(self, name: str, out: Path, settings: Mapping[str, Any]) -> None:
        from accelerate import Accelerator

        self._accelerator: Any = Accelerator(log_with=name, project_dir=out / "tracker")
        plain = {key: value if isinstance(value, (int, float, str)) else str(value) for key, value in settings.items()}
        self._accelerator.init_trackers(PROJECT, config=plain)

    def log(self, figures: Mapping[str, Any]) -> None:
        """A step's numbers; what is no number stays in metrics.jsonl."""
        numbers = {name: value for name, value in figures.items() if isinstance(value, (int, float))}
        step = int(numbers.pop("step"))
        self._accelerator.log(numbers, step=step)

    def close(self) -> None:
        """See everything written."""
        self._accelerator.end_training()


def check_tracker(name: str) -> None:
    """Raise UsageError for a tracker that accelerate does not know, or that is not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(str(one) for one in LOGGER_TYPE_TO_CLASS)
    if name not in known:
        raise UsageError(
            f"no tracker {name!r}{nearest(name, known)}", where="--tracker", hint=f"There are {', '.join(known)}."
        )
    if name not in map(str, get_available_trackers()):
        raise UsageError(f"{name} is not installed", where="--tracker", hint=f"pip install {name}")
