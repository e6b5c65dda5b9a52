"""Saving a model: into place when it is whole, and the same when it is opened again, by anyone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.model.assemble import assemble
from llavamed_cli.model.load import load_model
from llavamed_cli.model.save import save_model


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_save_replaces_the_model_and_leaves_the_rest(copied: Path) -> None:
    (copied / "run.json").write_text("{}")
    (copied / ".model-killed").mkdir()
    (copied / ".model-killed" / "model.safetensors").write_text("half")
    made = assemble("tiny", "tiny", dtype=torch.float32, seed=9)
    save_model(made.model, made.processor, copied)
    assert (copied / "run.json").read_text() == "{}"
    assert not list(copied.glob(".model-*"))
    saved: Any = load_model(str(copied), device="cpu").model
    expected: Any = made.model
    assert torch.equal(saved.lm_head.weight, expected.lm_head.weight)


def test_a_save_that_fails_leaves_the_old_model(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = assemble("tiny", "tiny", dtype=torch.float32, seed=9)
    before = {file.name: file.read_bytes() for file in copied.iterdir()}
    processor: Any = made.processor
    monkeypatch.setattr(type(processor), "save_pretrained", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_model(made.model, made.processor, copied)
    assert {file.name: file.read_bytes() for file in copied.iterdir()} == before
