"""What the frozen tower sees: the same from the cache, in any company, and without a gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.model.images import open_picture
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.training import features as room
from llavamed_cli.training.features import FrozenFeatures, tower_features

Open = Callable[[], LoadedModel]


@pytest.fixture
def pictures(data_folder: Path) -> list[Path]:
    return sorted((data_folder / "images").iterdir())


def width_of(loaded: LoadedModel) -> int:
    model: Any = loaded.model
    return int(model.config.vision_config.hidden_size)


def test_features_come_in_the_order_asked_for_and_repeated(open_tiny: Open, pictures: list[Path]) -> None:
    loaded = open_tiny()
    a, b = pictures[:2]
    found = FrozenFeatures(loaded).of([b, a, b])
    pixels = loaded.pixels([open_picture(path) for path in (b, a, b)])
    expected = tower_features(loaded.model, pixels)
    assert found.shape == (3, loaded.image_length, width_of(loaded))
    assert not found.requires_grad
    assert torch.equal(found, expected)
    assert not torch.equal(found[0], found[1])


def test_a_picture_is_computed_once_while_there_is_room(
    open_tiny: Open, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def counted(path: Path) -> Any:
        opened.append(path)
        return open_picture(path)

    monkeypatch.setattr(room, "open_picture", counted)
    loaded = open_tiny()
    roomy = FrozenFeatures(loaded)
    first = roomy.of(pictures)
    assert torch.equal(roomy.of(pictures), first)
    assert sorted(opened) == pictures
    opened.clear()
    one_picture = loaded.image_length * width_of(loaded) * 4
    narrow = FrozenFeatures(loaded, limit=one_picture)
    narrow.of(pictures[:2])
    assert torch.equal(narrow.of(pictures[:2]), first[:2])
    assert opened == [pictures[0], pictures[1], pictures[1]]


def test_the_company_does_not_change_the_features(open_tiny: Open, pictures: list[Path]) -> None:
    """Bit for bit: a resumed run meets pictures in other company than an uninterrupted one."""
    together = FrozenFeatures(open_tiny()).of(pictures)
    alone = torch.cat([FrozenFeatures(open_tiny(), limit=0).of([path]) for path in pictures])
    assert torch.equal(together, alone)
