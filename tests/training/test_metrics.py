"""Figures of steps: lines that can be cut and amended, and the same numbers to a tracker that accelerate knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType

from llavamed_cli.errors import UsageError
from llavamed_cli.training.metrics import METRICS_FILE, Metrics, Tracker, check_tracker, read_metrics


def test_lines_are_added_cut_and_amended(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.cut(0)
    for step in (1, 2, 3):
        metrics.record({"step": step, "loss": 1 / step})
    with (tmp_path / METRICS_FILE).open("a") as stream:
        stream.write('{"step": 4, "lo')
    metrics.cut(2)
    metrics.amend({"validation_loss": 0.25})
    assert read_metrics(tmp_path / METRICS_FILE) == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5, "validation_loss": 0.25},
    ]
    assert read_metrics(tmp_path / "absent.jsonl") == []


def test_trackers_that_are_not_there_are_said() -> None:
    with pytest.raises(UsageError, match="no tracker 'tensorbord', did you mean 'tensorboard'") as refused:
        check_tracker("tensorbord")
    assert "mlflow" in str(refused.value.hint)


def test_a_tracker_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(UsageError, match="aim is not installed") as refused:
        check_tracker("aim")
    assert refused.value.hint == "pip install aim"


class Kept(GeneralTracker):
    """A tracker that keeps what it is told; in accelerate's table it takes the place of one that is installed."""

    name = "aim"
    requires_logging_directory = False
    told: list[tuple[int | None, Mapping[str, Any]]] = []  # noqa: RUF012  accelerate makes the object
    settings: Mapping[str, Any] = {}

    def __init__(self, run_name: str, **options: Any) -> None:
        super().__init__()

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        Kept.settings = values

    def log(self, values: dict[str, Any], step: int | None, **options: Any) -> None:
        Kept.told.append((step, values))


def test_a_tracker_is_told_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.AIM])
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "aim", Kept)
    check_tracker("aim")
    tracker = Tracker("aim", tmp_path, {"train": ["projector"], "steps": None, "learning_rate": 1e-3})
    metrics = Metrics(tmp_path, tracker)
    metrics.record({"step": 1, "loss": 2.0, "validation_answers": [{"id": "a"}]})
    metrics.amend({"validation_loss": 3.0})
    tracker.close()
    assert Kept.told == [(1, {"loss": 2.0}), (1, {"validation_loss": 3.0})]
    assert Kept.settings == {"train": "['projector']", "steps": "None", "learning_rate": 1e-3}
