"""align and tune killed at random moments, as a power cut would: what is repeated ends as if it had not been, to a bit.

Twenty kills, wherever they fall: while data is read, in a step, while a checkpoint or the model is written. Processes
come from a server that has torch imported already, so that the moments fall into the work.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import runpy
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

KILLS = 10
"""Of each command."""
IMPORTED = ["llavamed_cli.training.stage", "llavamed_cli.model.assemble", "llavamed_cli.cli.app", "peft", "accelerate"]
COMMON = ("--device", "cpu", "--precision", "fp32", "--batch-size", "3", "--save-every", "2", "--keep", "1", "--quiet")


def child(arguments: Sequence[str], cache: str) -> None:
    """A command line in a process of its own."""
    os.environ["LLAVAMED_CACHE"] = cache
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    from llavamed_cli.cli.app import main

    os._exit(main(list(arguments)))


@pytest.fixture(scope="module")
def processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def files_of(out: Path) -> dict[str, bytes]:
    """What a run leaves that is the same each time."""
    names = [*out.glob("*.safetensors"), *out.glob("adapter/*.safetensors"), out / "config.json"]
    found = {str(path.relative_to(out)): path.read_bytes() for path in names}
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = repr([{**step, "seconds": 0} for step in steps]).encode()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", ["align", "tune"])
def test_runs_killed_at_random_moments_end_as_one_that_was_not(
    command: str, processes: Any, tiny_model: Path, data_folder: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('train = ["projector", "lm"]\nlora_rank = 4\nlora_dropout = 0.2\nlearning_rate = 1e-3\n')
    options = {
        "align": ("--language-model", "tiny", "--vision-tower", "tiny", "--steps", "24", "--cache-features", "memory"),
        "tune": ("--model", str(tiny_model), "--recipe", str(recipe), "--steps", "24", "--cache-features", "disk",
                 "--validate", str(data_folder / "instruct.jsonl"), "--validate-every", "6"),
    }[command]  # fmt: skip
    cache = str(tmp_path / "cache")

    def start(out: Path) -> Any:
        line = (command, str(data_folder), "--out", str(out), *COMMON, *options)
        asked = __file__, {"ASKED": (line, cache)}, "child"
        process = processes.Process(target=runpy.run_path, args=asked, daemon=True)
        process.start()
        return process

    began = time.monotonic()
    undisturbed = start(tmp_path / "undisturbed")
    undisturbed.join(300)
    assert undisturbed.exitcode == 0
    whole = time.monotonic() - began
    expected = files_of(tmp_path / "undisturbed")
    moments = random.Random(command)
    killed, runs, resumed = 0, 0, 0
    while killed < KILLS or runs == 0:
        out = tmp_path / f"run {runs}"
        process = start(out)
        process.join(moments.uniform(0, whole) if killed < KILLS else 300)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode == -signal.SIGKILL:
            killed += 1
            resumed += (out / "checkpoints").is_dir()
            continue
        assert process.exitcode == 0
        assert files_of(out) == expected
        runs += 1
    last = start(tmp_path / f"run {runs}")
    last.join(300)
    assert last.exitcode == 0
    assert files_of(tmp_path / f"run {runs}") == expected
    assert killed == KILLS
    assert resumed >= 2, "too few kills fell into the training to say anything"


if __name__ == "child":  # a test's module cannot be imported by another process under its own name
    child(*ASKED)  # type: ignore[name-defined]  # noqa: F821
