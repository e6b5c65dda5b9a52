"""A picture in the terminal, where there is one: in its own graphics (kitty, sixel), or in coloured half blocks.

To look at in passing: whatever goes wrong, something coarser or nothing is printed, and the answer still comes.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console

COLUMNS, SHARE_OF_ROWS = 60, 0.6
"""At most: so wide, and so much of the terminal's height, that the question stays in sight."""
LONGEST_SIDE = 2000
"""Pixels; more would be sent to be thrown away."""
CELL = 2
"""A character is about twice as high as it is wide."""


def show_picture(image: Image, stream: TextIO) -> None:
    """Print a picture if `stream` is a terminal that can show one; nothing otherwise."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ:
        return
    if (stream.encoding or "").lower().replace("-", "") != "utf8":
        return
    from rich.console import Console

    console = Console(file=stream)
    width, height = min(COLUMNS, console.width), max(4, int(console.height * SHARE_OF_ROWS))
    # To know what the terminal can draw is to ask it, and to hear the answer on stdin.
    asks = sys.stdin.isatty() and sys.stdin is sys.__stdin__ and stream is sys.stdout is sys.__stdout__
    if not (asks and _draw(image, console, width, height)):
        _draw_blocks(image, console, width, height)


def _draw(image: Image, console: Console, width: int, height: int) -> bool:
    """In the terminal's own graphics, where it has any; whether it was drawn."""
    logging.getLogger("textual_image").setLevel(logging.CRITICAL)  # it reports each question that goes unanswered
    try:
        from textual_image.renderable import Image as Graphics
        from textual_image.renderable import SixelImage, TGPImage

        if Graphics not in (SixelImage, TGPImage):
            return False
        small = image.copy()
        small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        console.print(Graphics(small, width="auto", height="auto"), width=width, height=height)
    except Exception:  # a terminal that answers in its own way
        return False
    return True


def _draw_blocks(image: Image, console: Console, width: int, height: int) -> None:
    """Two pixels a character: the upper half in its colour, the lower half in its background's."""
    from rich.color import Color
    from rich.segment import Segment, Segments
    from rich.style import Style

    scale = min(width / image.width, height * CELL / image.height)
    columns, rows = max(1, round(image.width * scale)), max(1, round(image.height * scale / CELL))
    pixels = image.convert("RGB").resize((columns, rows * CELL)).tobytes()
    cells = []
    for row in range(rows):
        for column in range(columns):
            starts = (3 * ((CELL * row + half) * columns + column) for half in (0, 1))
            above, below = (Color.from_rgb(*pixels[start : start + 3]) for start in starts)
            cells.append(Segment("▀", Style(color=above, bgcolor=below)))
        cells.append(Segment.line())
    console.print(Segments(cells), end="")
