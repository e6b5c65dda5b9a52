"""What the tower sees: the same from every cache, in any company, and with a gradient only where the tower learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.errors import PictureError
from llavamed_cli.model.images import open_picture
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.progress import Silent
from llavamed_cli.training import features as room
from llavamed_cli.training.feature_cache import DiskCache, FeatureCache, MemoryCache
from llavamed_cli.training.features import FrozenFeatures, LearnedFeatures, tower_dtype, tower_features, tower_key
from llavamed_cli.training.parts import prepare_parts
from llavamed_cli.training.recipe import Recipe

Open = Callable[[], LoadedModel]


@pytest.fixture
def pictures(data_folder: Path) -> list[Path]:
    return sorted((data_folder / "images").iterdir())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The pictures that were read, in order."""
    found: list[Path] = []

    def counted(path: Path) -> Any:
        found.append(path)
        return open_picture(path)

    monkeypatch.setattr(room, "open_picture", counted)
    return found


def shape_of(loaded: LoadedModel) -> tuple[int, int]:
    model: Any = loaded.model
    return loaded.image_length, int(model.config.vision_config.hidden_size)


def test_features_come_in_the_order_asked_for_and_repeated(open_tiny: Open, pictures: list[Path]) -> None:
    loaded = open_tiny()
    a, b = pictures[:2]
    found = FrozenFeatures(loaded).of([b, a, b])
    pixels = torch.cat([loaded.pixels([open_picture(path)]) for path in (b, a, b)])
    with torch.no_grad():
        expected = tower_features(loaded.model, pixels)
    assert found.shape == (3, *shape_of(loaded))
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert not torch.equal(found[0], found[1])


def test_it_is_what_transformers_hands_to_the_projector(open_counted: Open, pictures: list[Path]) -> None:
    loaded = open_counted()
    model: Any = loaded.model
    handed: list[torch.Tensor] = []
    model.model.multi_modal_projector.register_forward_pre_hook(lambda module, inputs: handed.append(inputs[0]))
    with torch.no_grad():
        model.get_image_features(torch.cat([loaded.pixels([open_picture(path)]) for path in pictures[:2]]))
    torch.testing.assert_close(FrozenFeatures(loaded).of(pictures[:2]), handed[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("layers", [[-2], [-2, -1]])
def test_several_layers_stand_side_by_side(layers: list[int], open_counted: Open, pictures: list[Path]) -> None:
    loaded = open_counted()
    model: Any = loaded.model
    model.config.vision_feature_layer = layers
    found = FrozenFeatures(loaded).of(pictures[:1])
    parts = []
    for layer in layers:
        model.config.vision_feature_layer = layer
        parts.append(FrozenFeatures(loaded).of(pictures[:1]))
    assert torch.equal(found, torch.cat(parts, dim=-1))


def a_cache(kind: str, loaded: LoadedModel, folder: Path) -> FeatureCache | None:
    if kind == "disk":
        (folder / "cache").mkdir(exist_ok=True)
        return DiskCache(folder / "cache", shape_of(loaded), tower_dtype(loaded.model), leave=0, progress=Silent())
    return MemoryCache(2**30) if kind == "memory" else None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_changes_no_bit(
    kind: str, dtype: torch.dtype, open_counted: Open, pictures: list[Path], opened: list[Path], tmp_path: Path
) -> None:
    loaded = open_counted()
    loaded.model.model.vision_tower.to(dtype)
    expected = FrozenFeatures(loaded).of(pictures)
    assert expected.dtype == dtype
    features = FrozenFeatures(loaded, a_cache(kind, loaded, tmp_path))
    opened.clear()
    assert torch.equal(features.of(pictures), expected)
    assert len(opened) == len(pictures)
    assert torch.equal(features.of(pictures[::-1]), expected.flip(0))
    assert len(opened) == len(pictures), "none is computed again"


@pytest.mark.parametrize("kind", ["memory", "disk", "off"])
def test_the_company_does_not_change_the_features(
    kind: str, open_counted: Open, pictures: list[Path], tmp_path: Path
) -> None:
    """Bit for bit: a resumed run meets pictures in other company than an uninterrupted one."""
    loaded = open_counted()
    together = FrozenFeatures(loaded, a_cache(kind, loaded, tmp_path)).of(pictures)
    alone = torch.cat([FrozenFeatures(open_counted()).of([path]) for path in pictures])
    assert torch.equal(together, alone)


def test_a_tower_that_learns_sees_anew_and_with_its_graph(open_counted: Open, pictures: list[Path]) -> None:
    loaded = open_counted()
    prepare_parts(loaded.model, Recipe(train=("vision_tower",)), seed=0)
    features = LearnedFeatures(loaded)
    before = features.of(pictures[:2])
    torch.testing.assert_close(before, FrozenFeatures(loaded).of(pictures[:2]), atol=1e-6, rtol=0)
    assert torch.equal(features.of([pictures[1], pictures[0], pictures[1]])[[1, 0, 2]][:2], before)
    before.sum().backward()
    reached = [one for one in loaded.model.model.vision_tower.parameters() if one.requires_grad]
    assert reached
    assert all(one.grad is not None for one in reached)
    with torch.no_grad():
        for parameter in reached:
            parameter += 0.01
    assert not torch.equal(features.of(pictures[:2]), before)


def test_autocast_around_a_frozen_tower_changes_nothing(open_counted: Open, pictures: list[Path]) -> None:
    features = FrozenFeatures(open_counted())
    expected = features.of(pictures[:1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(features.of(pictures[:1]), expected)


@pytest.mark.parametrize("kind", ["disk", "off"])
def test_a_picture_that_is_gone_is_named(kind: str, open_counted: Open, tmp_path: Path) -> None:
    loaded = open_counted()
    features = FrozenFeatures(loaded, a_cache(kind, loaded, tmp_path))
    with pytest.raises(PictureError, match=r"gone\.png"):
        features.of([tmp_path / "gone.png"])


def test_the_key_tells_towers_settings_and_pixels_apart(open_counted: Open) -> None:
    def changed(change: Callable[[Any, Any], object]) -> str:
        loaded = open_counted()
        with torch.no_grad():
            change(loaded.model, loaded.processor)
        return tower_key(loaded)

    def nothing(model: Any, processor: Any) -> None:
        return

    def a_weight(model: Any, processor: Any) -> None:
        next(model.model.vision_tower.parameters()).view(-1)[-1] += 1e-3

    def the_projector(model: Any, processor: Any) -> None:
        next(model.model.multi_modal_projector.parameters()).add_(1)

    def the_layer(model: Any, processor: Any) -> None:
        model.config.vision_feature_layer = -1

    def the_format(model: Any, processor: Any) -> None:
        model.model.vision_tower.to(torch.bfloat16)

    def the_mean(model: Any, processor: Any) -> None:
        processor.image_processor.image_mean = [0.5, 0.5, 0.4]

    same = changed(nothing)
    assert changed(nothing) == changed(the_projector) == same
    others = [changed(one) for one in (a_weight, the_layer, the_format, the_mean)]
    assert len({same, *others}) == 5
