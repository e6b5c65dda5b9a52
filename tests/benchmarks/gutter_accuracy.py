"""How well composed pictures are cut into panels:  python tests/benchmarks/gutter_accuracy.py ../shared

Single pictures (VQA-RAD, on which the limits were chosen, and SLAKE, on which they were not) must stay whole. Composed
ones are made of VQA-RAD pictures, 2 to 6 each, with gutters of 3 to 20 pixels, saved as JPEG; right means as many boxes
as panels, each overlapping its own by nine tenths. "whole" counts those left uncut, which is the safe way to be wrong.
"""

from __future__ import annotations

import argparse
import io
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from llavamed_cli.corpus.screening.gutters import Box, find_gutters

COMPOSED = 100
GRIDS = ((2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (3, 2), (2, 3))
"""Columns and rows."""


def compose(
    pictures: list[Path], colour: str, rng: random.Random, *, frames: bool, letters: bool
) -> tuple[Image.Image, list[Box]]:
    """A grid of pictures with gutters of one colour, and where each lies."""
    columns, rows = rng.choice(GRIDS)
    width, height, gutter = rng.randint(180, 420), rng.randint(180, 420), rng.randint(3, 20)
    margin = rng.choice([0, gutter])
    size = [count * side + (count - 1) * gutter + 2 * margin for count, side in ((columns, width), (rows, height))]
    sheet = Image.new("RGB", (size[0], size[1]), colour)
    draw = ImageDraw.Draw(sheet)
    ink = "black" if colour == "white" else "white"
    boxes: list[Box] = []
    for index in range(columns * rows):
        x = margin + index % columns * (width + gutter)
        y = margin + index // columns * (height + gutter)
        with Image.open(rng.choice(pictures)) as picture:
            sheet.paste(picture.convert("RGB").resize((width, height)), (x, y))
        boxes.append((x, y, x + width, y + height))
        if frames:
            draw.rectangle((x - 1, y - 1, x + width, y + height), outline=ink)
        if letters:
            place = (max(0, x - margin), max(0, y - gutter))
            draw.text(place, "ABCDEF"[index], fill=ink, font=ImageFont.load_default(max(8, gutter)))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=rng.randint(70, 95))
    return Image.open(stream).convert("RGB"), boxes


def overlap(one: Box, other: Box) -> float:
    """The shared area as a share of the area of both."""
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def is_right(found: list[Box], true: list[Box]) -> bool:
    """Whether every panel has its box, in the same order."""
    return len(found) == len(true) and all(overlap(*pair) > 0.9 for pair in zip(found, true, strict=True))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shared", type=Path, help="the folder that holds data/vqa_rad and data/slake")
    data = parser.parse_args().shared / "data"
    vqa_rad = sorted((data / "vqa_rad" / "images").glob("*.jpg"))
    for name, pictures in (("VQA-RAD", vqa_rad), ("SLAKE", sorted((data / "slake" / "imgs").rglob("*.jpg")))):
        cut = [picture for picture in pictures if len(find_gutters(Image.open(picture))) > 1]
        print(f"single, {name}: {len(cut)} of {len(pictures)} cut", *(picture.parent.name for picture in cut))
    for colour in ("white", "black", "gray"):
        for frames, letters in ((False, False), (False, True), (True, False), (True, True)):
            rng = random.Random(1)
            made = [compose(vqa_rad, colour, rng, frames=frames, letters=letters) for _ in range(COMPOSED)]
            found = [(find_gutters(picture), boxes) for picture, boxes in made]
            right = sum(is_right(*pair) for pair in found)
            whole = sum(len(boxes) == 1 for boxes, _ in found)
            more = ", ".join(name for name, given in (("frames", frames), ("letters", letters)) if given)
            print(f"composed, {colour:5} {more:16} right {right:3} of {COMPOSED}, whole {whole:3}")


if __name__ == "__main__":
    main()
