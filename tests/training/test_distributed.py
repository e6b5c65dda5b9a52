"""Several processes: the same losses and weights as one, exact resume, whole weights at the end, a fault said once.

What needs two processes is done once, in one launch of `two_processes.py`, and looked at here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.errors import TrainingError, UsageError
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.progress import Silent
from llavamed_cli.training.data_files import find_data
from llavamed_cli.training.deal import deal
from llavamed_cli.training.features import FrozenFeatures
from llavamed_cli.training.loop import Training
from llavamed_cli.training.metrics import read_metrics
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.stage import prepare_stage
from llavamed_cli.world import World, is_lead, open_world

SCRIPT = Path(__file__).with_name("two_processes.py")
FULL = Recipe(
    train=("projector", "lm"),
    batch_size=3,
    max_tokens=150,
    share_pictures=False,
    steps=4,
    learning_rate=1e-3,
    warmup=0.3,
)
ALONE = replace(FULL, train=("projector",), batch_size=1, steps=3)
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def environment() -> dict[str, str]:
    return {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def two(counted_model: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes left what they found."""
    out = tmp_path_factory.mktemp("two")
    command = [*LAUNCH, str(SCRIPT), str(counted_model), str(data_folder), str(out)]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return out


@pytest.fixture(scope="module")
def one(counted_model: Path, data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Trains in this process alone: the model, and the steps' figures."""

    def train(recipe: Recipe) -> tuple[LoadedModel, list[dict[str, Any]]]:
        out = tmp_path_factory.mktemp("one")
        files = find_data([data_folder], "instruct.jsonl", None)

        def open_model() -> LoadedModel:
            return load_model(str(counted_model), device="cpu", precision="fp32")

        prepared = prepare_stage(open_model, files, recipe, seed=0, progress=Silent())
        loaded = prepared.loaded
        Training(
            loaded=loaded,
            examples=prepared.examples,
            features=FrozenFeatures(loaded),
            recipe=recipe,
            seed=0,
            out=out,
            identity="test",
        ).run(Silent())
        return loaded, read_metrics(out / "metrics.jsonl")

    return train


def told(two: Path, name: str) -> list[Any]:
    """What each process told."""
    return [json.loads((two / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]


def far_from(loaded: LoadedModel, saved: Path) -> float:
    """The largest difference of any weight."""
    model: Any = loaded.model
    weights = torch.load(saved, weights_only=True)
    state = model.state_dict()
    assert state.keys() == weights.keys()
    return max(float((state[name] - weights[name]).abs().max()) for name in state)


def test_two_processes_learn_what_one_learns(two: Path, one: Callable[..., Any]) -> None:
    loaded, steps = one(FULL)
    together = read_metrics(two / "full" / "metrics.jsonl")
    assert any(step["rows"] > 1 for step in steps), "one process would have nothing to do"
    for name in ("loss", "grad_norm", "learning_rate", "epoch"):
        assert [step[name] for step in together] == pytest.approx([step[name] for step in steps], rel=1e-5), name
    for name in ("step", "tokens", "supervised_tokens", "rows"):
        assert [step[name] for step in together] == [step[name] for step in steps], name
    assert far_from(loaded, two / "full-0.pt") < 1e-5
    assert [found["same"] for found in told(two, "full")] == [True, True]


def test_a_process_without_a_row_takes_part(two: Path, one: Callable[..., Any]) -> None:
    _, steps = one(ALONE)
    together = read_metrics(two / "one_row" / "metrics.jsonl")
    assert [step["loss"] for step in together] == pytest.approx([step["loss"] for step in steps], rel=1e-5)
    lead, other = told(two, "one_row")
    assert lead["same"] and other["same"]
    assert "1 row(s) a step for 2 processes, so that some wait" in lead["notes"][0]


@pytest.mark.parametrize("name", ["lora", "sharded", "sharded_lora"])
def test_a_run_stopped_in_one_process_goes_on_bit_for_bit_in_both(two: Path, name: str) -> None:
    lead, other = told(two, name)
    assert (lead["left"], other["left"]) == ("interrupted", 130)
    assert lead["stopped"][-1] == "stopped after step 3 of 4; the same command goes on from there"
    assert lead["repeated"][0] == "going on after step 3"
    assert lead["differ"] == []
    stopped, whole = (read_metrics(two / f"{name}_{which}" / "metrics.jsonl") for which in ("stopped", "whole"))
    assert [{**step, "seconds": 0} for step in stopped] == [{**step, "seconds": 0} for step in whole]


def test_weights_in_shards_learn_the_same_and_are_whole_at_the_end(two: Path, one: Callable[..., Any]) -> None:
    """Process 0 has them all, under the model's own names; what the other holds is of no use."""
    loaded, steps = one(FULL)
    together = read_metrics(two / "sharded_whole" / "metrics.jsonl")
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in together] == pytest.approx([step[name] for step in steps], rel=1e-5), name
    assert far_from(loaded, two / "sharded-0.pt") < 1e-5
    saved = two / "sharded_stopped" / "checkpoints" / "step-000003"
    files = {file.name for file in saved.iterdir()}
    assert files == {"state.pt", *(f"{name}-0000{n}" + end for n in (0, 1) for name, end in PARTS)}


PARTS = (("trained", ".safetensors"), ("optimizer", ".pt"))


def test_shards_are_touched_alike_where_one_process_has_no_row_or_no_picture(two: Path) -> None:
    plain, shards = (read_metrics(two / f"{name}_alone" / "metrics.jsonl") for name in ("plain", "sharded"))
    assert len(plain) == 9
    assert min(step["grad_norm"] for step in plain) == 0, "the sample without a picture teaches a projector nothing"
    for name in ("loss", "grad_norm"):
        assert [step[name] for step in shards] == pytest.approx([step[name] for step in plain], rel=1e-5, abs=1e-7)


def test_shards_are_validated_like_whole_weights(two: Path) -> None:
    plain, shards = (read_metrics(two / f"{name}_validated" / "metrics.jsonl") for name in ("plain", "sharded"))
    found = [step["validation_loss"] for step in plain if "validation_loss" in step]
    assert len(found) == 2
    assert [step["validation_loss"] for step in shards if "validation_loss" in step] == pytest.approx(found, rel=1e-5)
    assert [step.get("validation_answers") for step in shards] == [step.get("validation_answers") for step in plain]


def test_a_fault_in_one_process_ends_both_with_one_message_and_what_was_done_is_saved(two: Path) -> None:
    for name, said in (
        ("gone", "7.png: the picture is gone"),
        ("memory", "memory ran out in step 3"),
        ("bug", "process 1 failed: ZeroDivisionError: by zero"),
    ):
        lead, other = told(two, name)
        assert said in lead
        assert other == 1
        assert [path.name for path in (two / name / "checkpoints").iterdir()] == ["step-000002"]
    memory = told(two, "memory")[0]
    assert f"Step 2 is saved in {two / 'memory' / 'checkpoints'}" in memory
    assert "--max-tokens" in memory and "gradient_checkpointing" in memory and "QLoRA" in memory


def test_processes_meet(two: Path) -> None:
    for found in told(two, "meetings"):
        assert found == {"order": "01", "told": "made by 0", "values": [0, 10]}


class Shapes:
    """What dealing needs to know of samples."""

    def __init__(self, samples: list[tuple[int, int, int]]) -> None:
        self.lengths, self.prefix_lengths, self.picture_keys = (
            numpy.asarray([sample[place] for sample in samples], dtype=numpy.int64) for place in range(3)
        )


samples = st.lists(st.tuples(st.integers(20, 400), st.integers(0, 19), st.integers(-1, 3)), min_size=1, max_size=40)


@given(samples, st.integers(1, 5), st.integers(1, 4))
def test_every_row_is_dealt_once_and_no_process_has_much_more(
    found: list[tuple[int, int, int]], size: int, width: int
) -> None:
    """A process beyond the others by more than one row would have been passed over for that row."""
    shapes: Any = Shapes(found)
    indices = list(range(len(found)))
    step = [tuple(indices[first : first + width]) for first in range(0, len(indices), width)]
    hands = deal(shapes, step, size)
    assert len(hands) == size
    assert sorted(row for hand in hands for row in hand) == sorted(step)
    assert hands == deal(shapes, step, size)

    def tokens(row: tuple[int, ...]) -> int:
        laid, seen = 0, set()
        for index in row:
            length, prefix, key = found[index]
            again = key >= 0 and prefix > 0 and (key, prefix) in seen
            seen.add((key, prefix))
            laid += length - prefix if again else length
        return laid

    loads = [sum(map(tokens, hand)) for hand in hands]
    assert max(loads) - min(loads) <= max(map(tokens, step))


def test_one_process_meets_itself() -> None:
    world = World()
    assert world.leads and world.exchange(3) == [3] and world.from_lead(lambda: "made") == "made"
    with world.in_turn(), world.together():
        pass
    with pytest.raises(TrainingError, match="lost"), world.together():
        raise TrainingError("lost")


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert is_lead()
    with open_world("auto") as world:
        assert (world.rank, world.size) == (0, 1)
    monkeypatch.setenv("RANK", "3")
    assert not is_lead()


def test_deepspeed_is_refused_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UsageError, match="DeepSpeed is not supported") as refused, open_world("cpu"):
        pass
    assert "fsdp2.yaml" in str(refused.value.hint)


def test_devices_that_processes_cannot_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(UsageError, match="cannot share Apple's GPU"), open_world("mps"):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(UsageError, match="the device is CUDA") as refused, open_world("cuda"):
        pass
    assert "--device cpu" in str(refused.value.hint)


@pytest.fixture
def launched(tiny_model: Path, data_folder: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `llavamed tune` in two processes; whatever is left of it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def launch(*options: object) -> subprocess.Popen[str]:
        line = ["-m", "llavamed_cli", "tune", data_folder, "--model", tiny_model, "--device", "cpu", *options]
        command = [*LAUNCH, *map(str, line)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, env=environment(), text=True, start_new_session=True, **streams)  # type: ignore[call-overload]
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield launch
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.slow
def test_the_command_in_two_processes_is_stopped_goes_on_and_is_one_model(
    launched: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """SIGTERM to the launcher, as a cluster sends it."""
    from transformers import AutoModelForImageTextToText

    out = tmp_path / "out"
    options = ("--out", out, "--steps", 40, "--batch-size", 4, "--max-tokens", 300, "--lr", "1e-3")
    first = launched(*options, "--save-every", 1000)
    limit = time.monotonic() + 200
    while not (out / "metrics.jsonl").is_file():
        assert first.poll() is None and time.monotonic() < limit, first.communicate()
        time.sleep(0.01)
    first.terminate()
    _, said = first.communicate(timeout=100)
    assert first.returncode != 0
    assert len(re.findall(r"stopped after step \d+ of 40", said)) == 1
    assert "llavamed: " not in said
    second = launched(*options, "--save-every", 1000)
    printed, said = second.communicate(timeout=400)
    assert second.returncode == 0, said
    assert said.count("going on after step") == 1
    assert printed.splitlines()[0] == str(out) and len(printed.splitlines()) == 2
    AutoModelForImageTextToText.from_pretrained(out)
    assert [step["step"] for step in read_metrics(out / "metrics.jsonl")] == list(range(1, 41))


@pytest.mark.slow
def test_a_fault_of_the_command_is_said_once(launched: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = launched("--out", tmp_path / "out", "--steps", 6, "--batch-size", 9, "--lr", "1e30")
    _, said = process.communicate(timeout=300)
    assert process.returncode != 0
    assert len(re.findall(r"llavamed: the (loss|gradient) of step \d is", said)) == 1
