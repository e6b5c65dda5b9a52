"""Draw the pictures of some folders as labelled thumbnails, and list the files that were refused, with their sentences.

usage: python tests/contact_sheet.py FOLDER... OUT.png     (../shared stands for its data/dicom and data/edge_images)

A person looks at the sheet: a wrong polarity, window or colour is seen at once, and no test knows a chest when it
sees one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from llavamed_cli.errors import LlavamedError
from llavamed_cli.model.images import read_picture
from llavamed_cli.model.picture import Picture

CELL, LABEL, COLUMNS, LINE = 192, 44, 7, 14
SHARED = ("data/dicom", "data/edge_images")
LEFT_OUT = (".py", ".csv", ".md", ".txt")


def files_of(folder: Path) -> list[Path]:
    folders = [folder / part for part in SHARED] if (folder / SHARED[0]).is_dir() else [folder]
    return [file for one in folders for file in sorted(one.iterdir()) if file.is_file() and file.suffix not in LEFT_OUT]


def draw_sheet(pictures: list[tuple[str, Picture]], refused: list[str]) -> Image.Image:
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + LABEL) + LINE * (len(refused) + 2)), "#203040")
    pen = ImageDraw.Draw(sheet)
    for place, (name, picture) in enumerate(pictures):
        left, top = place % COLUMNS * CELL, place // COLUMNS * (CELL + LABEL)
        thumbnail = picture.image.copy()
        thumbnail.thumbnail((CELL - 6, CELL - 6))
        sheet.paste(thumbnail, (left + 3, top + 3))
        facts = picture.facts
        shown = (
            f"window {facts.window[0]:g},{facts.window[1]:g}" if facts.window else f"{facts.frame} of {facts.frames}"
        )
        for line, text in enumerate((name, f"{facts.format} {facts.mode}", f"{facts.width} x {facts.height}  {shown}")):
            pen.text((left + 3, top + CELL + line * LINE), text[:31], fill="white")
    for line, text in enumerate(refused):
        pen.text((3, rows * (CELL + LABEL) + LINE * (line + 1)), text, fill="#ffc080")
    return sheet


def main(folders: list[str], out: str) -> None:
    pictures, refused = [], []
    for file in (file for folder in folders for file in files_of(Path(folder))):
        try:
            pictures.append((file.name, read_picture(file)))
        except LlavamedError as error:
            refused.append(f"{file.name}: {error.what}")
    draw_sheet(pictures, refused).save(out)
    print(f"{len(pictures)} drawn, {len(refused)} refused: {out}", *refused, sep="\n  ")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1:-1], sys.argv[-1])
