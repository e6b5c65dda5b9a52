from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFilter

from llavamed_cli.corpus.screening.gutters import Box, find_gutters


def photo(size: tuple[int, int], seed: int) -> Image.Image:
    """Blurred noise between dark and light grey: no line of it is plain."""
    noise = Image.frombytes("L", size, random.Random(seed).randbytes(size[0] * size[1]))
    return noise.filter(ImageFilter.GaussianBlur(2)).point(lambda level: min(max((level - 128) * 6 + 128, 40), 215))


def sheet(boxes: list[Box], size: tuple[int, int], colour: int) -> Image.Image:
    """Photos at some places of a plain sheet."""
    picture = Image.new("L", size, colour)
    for seed, (left, upper, right, lower) in enumerate(boxes):
        picture.paste(photo((right - left, lower - upper), seed), (left, upper))
    return picture


ROW = [(0, 0, 100, 80), (103, 0, 203, 80), (206, 0, 306, 80)]
GRID = [(10, 10, 110, 90), (120, 10, 220, 90), (10, 100, 110, 180), (120, 100, 220, 180)]
UNEVEN = [(0, 0, 200, 100), (0, 110, 95, 200), (105, 110, 200, 200)]


@pytest.mark.parametrize("colour", [255, 0, 240])
@pytest.mark.parametrize(("boxes", "size"), [(ROW, (306, 80)), (GRID, (230, 190)), (UNEVEN, (200, 200))])
def test_panels_are_found_in_reading_order(boxes: list[Box], size: tuple[int, int], colour: int) -> None:
    assert find_gutters(sheet(boxes, size, colour)) == boxes


def test_jpeg_frames_and_letters_in_the_gutter_do_not_hide_it(tmp_path: Path) -> None:
    boxes = [(10, 24, 160, 340), (184, 24, 334, 340)]
    picture = sheet(boxes, (344, 350), 255).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for left, upper, right, lower in boxes:
        draw.rectangle((left - 2, upper - 2, right + 1, lower + 1), outline="black")
    draw.text((168, 20), "B", fill="black")
    picture.save(tmp_path / "a.jpg", quality=70)
    found = find_gutters(Image.open(tmp_path / "a.jpg"))
    assert len(found) == 2
    for box, true in zip(found, boxes, strict=True):
        assert all(abs(side - other) <= 3 for side, other in zip(box, true, strict=True))


def test_a_large_picture_is_cut_at_its_own_scale() -> None:
    boxes = [(0, 0, 1600, 1200), (1620, 0, 3220, 1200)]
    small = sheet([(0, 0, 400, 300), (405, 0, 805, 300)], (805, 300), 255)
    found = find_gutters(small.resize((3220, 1200), Image.Resampling.NEAREST))
    assert len(found) == 2
    for box, true in zip(found, boxes, strict=True):
        assert all(abs(side - other) <= 8 for side, other in zip(box, true, strict=True))


def ellipses(colour: int, ground: int) -> Image.Image:
    """Two round bodies beside each other, as two thighs in a CT slice, or two lumina in a section."""
    picture = Image.new("L", (400, 240), ground)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 30, 180, 210), fill=colour)
    draw.ellipse((220, 30, 380, 210), fill=colour)
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        photo((300, 200), 7),
        ellipses(150, 0),
        ellipses(120, 255),
        sheet([(40, 30, 260, 170)], (300, 200), 0),  # black borders
        sheet([(0, 0, 280, 200), (290, 0, 300, 200)], (300, 200), 255),  # a colour bar
        Image.new("L", (300, 200), 0),
        Image.new("RGB", (1, 1)),
        Image.new("L", (3, 4000), 255),
    ],
    ids=["photo", "dark ground", "light ground", "borders", "colour bar", "plain", "one pixel", "a line"],
)
def test_a_single_picture_stays_whole(picture: Image.Image) -> None:
    assert find_gutters(picture) == [(0, 0, *picture.size)]


def test_real_pictures_of_one_examination_stay_whole(shared: Path) -> None:
    """Every fourth of VQA-RAD and SLAKE, on which no limit was chosen; benchmarks/gutter_accuracy.py takes them all."""
    pictures = sorted((shared / "data" / "vqa_rad" / "images").glob("*.jpg"))[::4]
    pictures += sorted((shared / "data" / "slake" / "imgs").rglob("*.jpg"))[::4]
    assert len(pictures) > 90
    assert [picture.name for picture in pictures if len(find_gutters(Image.open(picture))) > 1] == []


def test_composed_real_pictures_are_cut(shared: Path) -> None:
    pictures = sorted((shared / "data" / "vqa_rad" / "images").glob("*.jpg"))
    right = 0
    for index in range(0, 60, 4):
        whole = Image.new("RGB", (406, 406), "white")
        for place, picture in zip(((0, 0), (206, 0), (0, 206), (206, 206)), pictures[index : index + 4], strict=True):
            whole.paste(Image.open(picture).convert("RGB").resize((200, 200)), place)
        right += len(find_gutters(whole)) == 4
    assert right >= 12  # of 15: some radiographs have white margins of their own
