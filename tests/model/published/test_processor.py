"""Pixels and picture tokens, against the reference's processor and CLIP's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from llavamed_cli.model.published.processor import aspect_of, build_processor
from llavamed_cli.model.published.towers import CLIP_MEAN, CLIP_STD, TowerReading
from llavamed_cli.model.published.vocabulary import add_tokens

PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture
def tower(random_llava: Callable[..., Any]) -> Callable[[int], TowerReading]:
    def make(size: int) -> TowerReading:
        return TowerReading(
            config=random_llava().config.vision_config,
            tensors={},
            size=size,
            patch=8,
            mean=CLIP_MEAN,
            std=CLIP_STD,
            class_token=True,
            kind="CLIP",
        )

    return make


@pytest.fixture
def tokenizer(words: Callable[[], Any]) -> Any:
    made = words()
    add_tokens(made)
    return made


@pytest.mark.parametrize(("aspect", "recorded"), [("pad", "pad.lo"), ("square", "square")])
@pytest.mark.parametrize("size", [32, 56])
def test_pixels_are_the_references(
    tower: Callable[[int], TowerReading], tokenizer: Any, shared: Path, aspect: Any, recorded: str, size: int
) -> None:
    """Wide, tall and square pictures, padded with the lower of the two offsets the reference draws from."""
    files = sorted((shared / "oracle" / "images").glob("*_RGB_*.png"))
    assert len(files) == 3
    processor: Any = build_processor(tokenizer, PLAIN, tower(size), aspect=aspect)
    oracle = numpy.load(shared / "oracle" / "images" / "processed.npz")
    for file in files:
        with Image.open(file) as picture:
            pixels = processor.image_processor(images=picture, return_tensors="np")["pixel_values"][0]
        number = file.name.split("_")[0].removeprefix("i")
        assert numpy.abs(pixels - oracle[f"{number}.p{size}.{recorded}"]).max() < 1e-5


def test_a_crop_loses_the_edges_and_padding_keeps_them(tower: Callable[[int], TowerReading], tokenizer: Any) -> None:
    picture = Image.new("RGB", (64, 16), "black")
    picture.paste("white", (0, 0, 8, 16))
    padded, cropped = (
        build_processor(tokenizer, PLAIN, tower(16), aspect=aspect).image_processor(images=picture)["pixel_values"][0]
        for aspect in ("pad", "square")
    )
    assert padded.max() > 1 > 0 > cropped.max()


def test_a_picture_takes_its_patches(tower: Callable[[int], TowerReading], tokenizer: Any) -> None:
    processor: Any = build_processor(tokenizer, PLAIN, tower(16), aspect="pad")
    ids = processor(text="a<image>b", images=Image.new("RGB", (16, 16)), return_tensors="np")["input_ids"][0].tolist()
    assert ids.count(tokenizer.convert_tokens_to_ids("<image>")) == 4


@pytest.mark.parametrize(
    ("said", "aspect"), [("pad", "pad"), ("square", "square"), (None, "square"), ("keep", "square")]
)
def test_only_pad_pads(said: str | None, aspect: str) -> None:
    assert aspect_of(said) == aspect
