"""Where features are kept: by what they take, by what is free, and by how often pictures are met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llavamed_cli.errors import UsageError
from llavamed_cli.model.free_memory import FreeMemory
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.progress import Silent
from llavamed_cli.training import feature_choice as room
from llavamed_cli.training.feature_choice import memory_limit, open_features
from llavamed_cli.training.parts import count, prepare_parts, trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.samples import ExampleSet

Open = Callable[[], LoadedModel]
PICTURES = 8
SIZE = 64 * 192 * 4
"""Bytes of a picture's features: the tiny tower's 64 patches, width 192, in fp32."""
ALL = PICTURES * SIZE


@pytest.fixture
def loaded(open_tiny: Open) -> LoadedModel:
    found = open_tiny()
    prepare_parts(found.model, Recipe(), seed=0)
    return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what is free, after what training takes."""
    monkeypatch.setattr(room, "trained_parameters", lambda model: {})

    def free(*, memory: int = 10**12, disk: int = 10**12) -> None:
        monkeypatch.setattr(room, "free_memory", lambda device: FreeMemory(memory, "here"))
        monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: SimpleNamespace(free=disk))

    return free


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


TWICE = Recipe(epochs=2)


def choose(loaded: LoadedModel, recipe: Recipe, examples: ExampleSet, folder: Path) -> tuple[Any, Any, list[str]]:
    notes = Notes()
    features, choice = open_features(loaded, recipe, examples, progress=notes, folder=folder)
    return features, choice, notes.said


@pytest.mark.parametrize(
    ("memory", "disk", "expected"),
    [
        (2 * ALL, 10**12, "memory"),
        (2 * ALL - 1, 2 * ALL, "disk"),
        (2 * ALL - 1, 2 * ALL - 1, "off"),
    ],
)
def test_auto_takes_memory_then_disk_then_neither(
    memory: int,
    disk: int,
    expected: str,
    loaded: LoadedModel,
    machine: Callable[..., None],
    examples: ExampleSet,
    tmp_path: Path,
) -> None:
    """Half of what is free may be used; the size is said before anything starts."""
    machine(memory=memory, disk=disk)
    _, choice, notes = choose(loaded, TWICE, examples, tmp_path)
    assert choice.value == expected
    assert f"{PICTURES} pictures take 0.00 GB" in choice.reason
    assert notes == [f"features: {expected} ({choice.reason})"]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(epochs=1), "off"),
        (Recipe(epochs=1, cache_features="memory"), "memory"),
        (Recipe(epochs=2), "memory"),
        (Recipe(steps=1, batch_size=9), "off"),
        (Recipe(steps=3, batch_size=9), "memory"),
    ],
)
def test_what_is_met_once_is_not_kept_unless_asked(
    recipe: Recipe,
    expected: str,
    loaded: LoadedModel,
    machine: Callable[..., None],
    examples: ExampleSet,
    tmp_path: Path,
) -> None:
    machine()
    _, choice, _ = choose(loaded, recipe, examples, tmp_path)
    assert choice.value == expected
    assert choice.reason == "each picture is met once" or expected == "memory"


def test_questions_about_one_picture_meet_it_often_unless_they_share_it(
    loaded: LoadedModel, machine: Callable[..., None], tmp_path: Path
) -> None:
    import numpy

    machine()
    asked: Any = SimpleNamespace(
        pictures=2, picture_counts=numpy.ones(6, dtype=int), picture_keys=numpy.asarray([0, 0, 0, 1, 1, 1])
    )
    assert choose(loaded, Recipe(epochs=1), asked, tmp_path)[1].value == "off"
    assert choose(loaded, Recipe(epochs=1, share_pictures=False), asked, tmp_path)[1].value == "memory"


def test_what_is_asked_for_is_done_or_refused(
    loaded: LoadedModel, machine: Callable[..., None], examples: ExampleSet, tmp_path: Path
) -> None:
    machine(memory=6 * SIZE, disk=0)
    _, choice, _ = choose(loaded, replace(TWICE, cache_features="memory"), examples, tmp_path)
    assert choice.value == "memory"
    assert "3 pictures' fit" in choice.reason
    assert choose(loaded, replace(TWICE, cache_features="off"), examples, tmp_path)[1].value == "off"
    with pytest.raises(UsageError, match="cannot be kept on disk: features of 8 pictures take"):
        choose(loaded, replace(TWICE, cache_features="disk"), examples, tmp_path)


def test_a_folder_that_cannot_be_written_is_said(
    loaded: LoadedModel, machine: Callable[..., None], examples: ExampleSet, tmp_path: Path
) -> None:
    machine(memory=0)
    (tmp_path / "file").touch()
    _, choice, _ = choose(loaded, TWICE, examples, tmp_path / "file")
    assert choice.value == "off"
    assert "cannot be written: Not a directory" in choice.reason
    with pytest.raises(UsageError, match="cannot be written"):
        choose(loaded, replace(TWICE, cache_features="disk"), examples, tmp_path / "file")


def test_what_the_disk_holds_already_needs_no_room(
    loaded: LoadedModel, machine: Callable[..., None], examples: ExampleSet, tmp_path: Path
) -> None:
    machine(memory=0)
    disk = replace(TWICE, cache_features="disk")
    features, _, _ = choose(loaded, disk, examples, tmp_path)
    pictures = sorted({path for example in examples for path in example.pictures})
    features.of(pictures)
    machine(memory=0, disk=0)
    again, choice, _ = choose(loaded, disk, examples, tmp_path)
    assert "there already" in choice.reason
    assert torch.equal(again.of(pictures), features.of(pictures))


def test_a_tower_that_learns_keeps_nothing(open_counted: Open, examples: ExampleSet, tmp_path: Path) -> None:
    loaded = open_counted()
    recipe = Recipe(train=("vision_tower",), epochs=2)
    prepare_parts(loaded.model, recipe, seed=0)
    assert choose(loaded, recipe, examples, tmp_path)[1].value == "off"


def test_memory_leaves_training_its_own_and_is_shared_by_processes(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient and two moments of four bytes for each number that learns."""
    monkeypatch.setattr(room, "free_memory", lambda device: FreeMemory(10**9, "here"))
    learned = count(trained_parameters(loaded.model))
    assert learned > 0
    assert memory_limit(loaded) == (10**9 - 12 * learned) // 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory_limit(loaded) == (10**9 // 4 - 12 * learned) // 2
    monkeypatch.setattr(room, "free_memory", lambda device: FreeMemory(10, "here"))
    assert memory_limit(loaded) == 0
