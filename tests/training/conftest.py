"""What the training tests share: a fresh model to train, and examples of several lengths to train it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.progress import Silent
from llavamed_cli.training.samples import Example, find_data, read_examples

Open = Callable[[], LoadedModel]


@pytest.fixture
def open_tiny(tiny_model: Path) -> Open:
    """Opens the tiny model anew at each call: training changes it in place."""
    return lambda: load_model(str(tiny_model), device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def examples(tiny_model: Path, data_folder: Path) -> tuple[Example, ...]:
    """The nine conversations of instruct.jsonl, the last without a picture."""
    loaded = load_model(str(tiny_model), device="cpu", precision="fp32")
    files = find_data([data_folder], "instruct.jsonl", None)
    found = read_examples(files, loaded.chat, image_length=loaded.image_length, context=2048, progress=Silent())
    assert not found.faults
    return found.examples
