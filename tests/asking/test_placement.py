"""Where the view lies, against arithmetic by hand and against a mark that is looked for in the pixels themselves."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from llavamed_cli.asking.placement import find_placement
from llavamed_cli.errors import ModelError, PictureError
from llavamed_cli.model.load import LoadedModel, load_model

VIEW = 64
WAYS: dict[str, dict[str, Any]] = {
    "pad": {},
    "crop": {"do_pad": False},
    "crop a middle": {"do_pad": False, "size": {"shortest_edge": 80}},
    "stretch": {"do_pad": False, "do_center_crop": False, "size": {"height": VIEW, "width": VIEW}},
}
SIZES = [(224, 224), (64, 64), (300, 120), (120, 300), (1999, 1333), (40, 30), (2000, 1998)]


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model), device="cpu", precision="fp32")


def seeing(loaded: LoadedModel, way: str) -> LoadedModel:
    """The model with a processor of other settings."""
    processor: Any = copy.deepcopy(loaded.processor)
    images = processor.image_processor
    processor.image_processor = type(images).from_dict({**images.to_dict(), **WAYS[way]})
    return replace(loaded, processor=processor)


def by_hand(way: str, width: int, height: int) -> tuple[float, float, float, float]:
    if way == "stretch":
        return 0, 0, width, height
    side = max(width, height) if way == "pad" else min(width, height) * (VIEW / 80 if way == "crop a middle" else 1)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_the_view_lies_where_arithmetic_says(loaded: LoadedModel, way: str, size: tuple[int, int]) -> None:
    place = find_placement(seeing(loaded, way), size)
    found = numpy.array([place.left, place.top, place.right, place.bottom])
    expected = numpy.array(by_hand(way, *size))
    pixel = max(expected[2] - expected[0], expected[3] - expected[1]) / VIEW
    # Sizes are cut off to whole pixels and margins halved so: what processors do is up to a pixel off the arithmetic.
    assert abs(found - expected).max() < max(pixel, 1)
    assert place.cropped == ((way == "crop" and size[0] - size[1] not in (0, 2)) or way == "crop a middle")
    area = (place.seen[2] - place.seen[0]) * (place.seen[3] - place.seen[1])
    view = (place.right - place.left) * (place.bottom - place.top)
    assert place.shows.mean() == pytest.approx(area / view, abs=0.03)


@pytest.mark.parametrize("size", [(224, 224), (300, 120), (120, 300), (1999, 1333)])
@pytest.mark.parametrize("way", WAYS)
def test_a_mark_is_found_where_it_was_put(loaded: LoadedModel, way: str, size: tuple[int, int]) -> None:
    model = seeing(loaded, way)
    place = find_placement(model, size)
    left, top, right, bottom = place.seen
    x, y = left + 0.3 * (right - left), top + 0.6 * (bottom - top)
    radius = min(right - left, bottom - top) / 8
    across, down = numpy.meshgrid(numpy.arange(size[0]) + 0.5, numpy.arange(size[1]) + 0.5)
    disc = numpy.hypot(across - x, down - y) <= radius
    mark = Image.fromarray(numpy.repeat(disc[..., None] * numpy.uint8(255), 3, axis=2))
    lit = model.pixels([mark])[0, 0].numpy() - model.pixels([Image.new("RGB", size)])[0, 0].numpy()
    rows, columns = numpy.mgrid[0:VIEW, 0:VIEW] + 0.5
    found_x = place.left + (lit * columns).sum() / lit.sum() * (place.right - place.left) / VIEW
    found_y = place.top + (lit * rows).sum() / lit.sum() * (place.bottom - place.top) / VIEW
    pixel = max(place.right - place.left, place.bottom - place.top) / VIEW
    assert (found_x, found_y) == pytest.approx((x, y), abs=0.6 * pixel)


@pytest.mark.parametrize("size", [(2000, 12), (3, 3)])
def test_next_to_nothing_seen_is_no_map(loaded: LoadedModel, size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match="few lines"):
        find_placement(loaded, size)


def test_a_view_that_is_not_one_piece_is_refused(loaded: LoadedModel) -> None:
    class Mirrored:
        def pixels(self, pictures: list[Image.Image]) -> torch.Tensor:
            return loaded.pixels(pictures).flip(-1)

    class Tiles:
        def pixels(self, pictures: list[Image.Image]) -> torch.Tensor:
            return loaded.pixels(pictures)[:, None]

    for other in (Mirrored(), Tiles()):
        with pytest.raises(ModelError, match="no map"):
            find_placement(other, (100, 100))  # type: ignore[arg-type]
