"""A stage from start to end: what it leaves in the folder, and that an interrupted one leaves no half model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llavamed_cli.errors import TrainingError
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.progress import Silent
from llavamed_cli.run_record import begin_run
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.samples import find_data
from llavamed_cli.training.stage import prepare_stage, train_stage

Open = Callable[[], LoadedModel]
RECIPE = Recipe(train=("projector",), batch_size=4, steps=2)


def run_stage(open_model: Open, data: Path, out: Path) -> dict[str, Any]:
    files = find_data([data], "align.jsonl", None)
    run = begin_run(out, "align", options=RECIPE.as_options(), inputs={"data": files[0].path}, seed=0)
    prepared = prepare_stage(open_model, files, RECIPE, seed=0, progress=Silent())
    return dict(train_stage(prepared, RECIPE, run, seed=0, progress=Silent()))


@pytest.fixture
def any_precision() -> Iterator[None]:
    """accelerate keeps one precision a process: let this test have its own."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_the_folder_tells_how_it_was_made(open_tiny: Open, data_folder: Path, tmp_path: Path) -> None:
    results = run_stage(open_tiny, data_folder, tmp_path / "out")
    out = tmp_path / "out"
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["results"] == results
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert (results["first_loss"], results["last_loss"]) == (steps[0]["loss"], steps[-1]["loss"])
    assert results["tokens"] == sum(step["tokens"] for step in steps)
    assert (results["steps"], results["samples"], results["set_aside"]) == (2, 8, 0)
    assert {"config.json", "model.safetensors", "loss.svg", "model-card.md"} <= {file.name for file in out.iterdir()}


def test_the_saved_weights_are_the_trained_ones(open_tiny: Open, data_folder: Path, tmp_path: Path) -> None:
    opened: list[LoadedModel] = []

    def remember() -> LoadedModel:
        opened.append(open_tiny())
        return opened[0]

    run_stage(remember, data_folder, tmp_path / "out")
    trained: Any = opened[0].model
    saved: Any = load_model(str(tmp_path / "out"), device="cpu").model
    for name, tensor in trained.state_dict().items():
        assert torch.equal(saved.state_dict()[name], tensor), name


@pytest.mark.usefixtures("any_precision")
def test_a_model_of_16_bits_is_saved_in_16_bits(tiny_model: Path, data_folder: Path, tmp_path: Path) -> None:
    """What learns is held in fp32 meanwhile."""
    run_stage(lambda: load_model(str(tiny_model), device="cpu", precision="bf16"), data_folder, tmp_path / "out")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert Counter(tensor.dtype for tensor in saved.values()) == {torch.bfloat16: len(saved)}


def test_a_stage_that_fails_leaves_no_model(
    open_tiny: Open, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.name == "config.json":
            raise OSError("killed while it moved the model into place")
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr("llavamed_cli.model.save.shutil.rmtree", lambda *_, **__: None)  # as after kill -9
        patched.setattr("llavamed_cli.model.save.Path.replace", killed)
        with pytest.raises(TrainingError, match="the model cannot be written: killed"):
            run_stage(open_tiny, data_folder, tmp_path / "out")
    out = tmp_path / "out"
    assert not (out / "config.json").exists()
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    run_stage(open_tiny, data_folder, out)
    assert not list(out.glob(".model-*"))
    load_model(str(out), device="cpu")


def test_no_usable_sample_is_a_fault_that_says_why(open_tiny: Open, tmp_path: Path) -> None:
    (tmp_path / "align.jsonl").write_text('{"id": "a", "conversations": []}\n')
    with pytest.raises(TrainingError, match=r"no sample can be used:\s+.*align\.jsonl:1 \(a\): no conversation"):
        run_stage(open_tiny, tmp_path, tmp_path / "out")
