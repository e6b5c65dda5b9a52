from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from PIL import Image, ImageEnhance

from llavamed_cli.corpus.screening.deduplicate import NEAR
from llavamed_cli.corpus.screening.picture_hash import BITS, EDGES_OFF, KEPT, PictureHash, distance, hash_picture
from llavamed_cli.model.images import open_picture

STEP = 16
"""Every so manieth picture is changed."""


def apart(one: PictureHash, other: PictureHash) -> int:
    """By how many bits the nearest views differ, whichever of the two was kept."""
    kept = min(distance(a, b) for a, b in itertools.product(one[:KEPT], other))
    sought = min(distance(a, b) for a, b in itertools.product(one, other[:KEPT]))
    return max(kept, sought)


def fft_signs(picture: Image.Image) -> numpy.ndarray:
    """The signs of the lowest 16 x 16 frequencies of the DCT-II, by a Fourier transform of the mirrored picture."""
    small = picture.resize((128, 128), Image.Resampling.LANCZOS, reducing_gap=3.0)
    grey = numpy.asarray(small.resize((64, 64), Image.Resampling.BILINEAR), dtype=float)
    mirrored = numpy.pad(grey, ((0, 64), (0, 64)), mode="symmetric")
    turn = numpy.exp(-1j * math.pi * numpy.arange(16) / 128)
    signs = (numpy.fft.fft2(mirrored)[:16, :16] * turn[:, None] * turn).real > 0
    signs[0, 0] = False
    return signs


def test_the_bits_are_the_signs_of_the_lowest_frequencies() -> None:
    rng = numpy.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (150, 130), dtype=numpy.uint8)) for _ in range(6)]
    hashes, signs = [hash_picture(picture)[0] for picture in pictures], [fft_signs(picture) for picture in pictures]
    assert [hash.bit_count() for hash in hashes] == [sign.sum() for sign in signs]
    for one, other in itertools.combinations(range(len(pictures)), 2):
        assert distance(hashes[one], hashes[other]) == (signs[one] != signs[other]).sum()


def test_a_picture_has_a_hash_for_each_view() -> None:
    noise = numpy.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=numpy.uint8)
    picture = Image.fromarray(noise)
    hashes = hash_picture(picture)
    assert len(hashes) == len(EDGES_OFF) and all(0 <= hash < 1 << BITS for hash in hashes)
    assert hash_picture(picture.convert("L")) == hashes == hash_picture(picture.copy())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
def test_any_mode_and_shape_has_one(mode: str) -> None:
    for size in ((1, 1), (1, 900), (700, 2)):
        assert hash_picture(Image.new("L", size, 255).convert(mode)) == (0,) * len(EDGES_OFF)


def changed(picture: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """The picture as it is met again elsewhere."""
    width, height = picture.size
    yield "half", picture.resize((width // 2, height // 2))
    yield "square", picture.resize((224, 224))
    yield "grey", picture.convert("L")
    yield "quality 40", jpeg(picture)
    yield "brighter", ImageEnhance.Brightness(picture).enhance(1.2)
    yield "darker", ImageEnhance.Brightness(picture).enhance(0.8)
    yield "contrast", ImageEnhance.Contrast(picture).enhance(1.2)
    for share in (0.01, 0.02):
        x, y = round(width * share), round(height * share)
        trimmed = picture.crop((x, y, width - x, height - y))
        yield f"trimmed by {share}", trimmed
    yield "trimmed, halved and quality 40", jpeg(trimmed.resize((width // 2, height // 2)))


def jpeg(picture: Image.Image) -> Image.Image:
    stored = io.BytesIO()
    picture.save(stored, "JPEG", quality=40)
    return Image.open(stored)


@pytest.mark.parametrize("folder", ["vqa_rad/images", "slake/imgs"])
def test_a_changed_picture_stays_itself(folder: str, shared: Path) -> None:
    files = sorted((shared / "data" / folder).rglob("*.jpg"))[::STEP]
    assert len(files) >= 6
    for file in files:
        picture = open_picture(file)
        whole = hash_picture(picture)
        for change, copy in changed(picture):
            assert apart(whole, hash_picture(copy)) <= NEAR, (file.name, change)


def test_different_medical_pictures_are_told_apart(shared: Path) -> None:
    """Of the pictures of SLAKE, and each third of VQA-RAD, only neighbouring slices of one scan are taken for one."""
    slake = sorted((shared / "data" / "slake" / "imgs").rglob("*.jpg"))
    rad = sorted((shared / "data" / "vqa_rad" / "images").glob("*.jpg"))[::3]
    hashes = {file.parent.name + "/" + file.name: hash_picture(open_picture(file)) for file in (*slake, *rad)}
    alike = {
        (one.split("/")[0], other.split("/")[0])
        for one, other in itertools.combinations(hashes, 2)
        if apart(hashes[one], hashes[other]) <= NEAR
    }
    assert alike == {("xmlab604", "xmlab605"), ("xmlab628", "xmlab629")}
