"""A picture in the terminal, where there is one: in its own graphics (kitty, sixel), or in coloured half blocks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = 60
"""At most; as wide as the terminal where that is less."""


def show_picture(image: Image, stream: TextIO) -> None:
    """Print a picture, if `stream` is a terminal; nothing is printed where it is none."""
    if not stream.isatty():
        return
    from rich.console import Console

    console = Console(file=stream)
    columns = min(COLUMNS, console.width)
    if stream is sys.stdout and sys.stdin.isatty():
        from textual_image.renderable import Image as Graphics  # asks the terminal, once, what it can draw

        console.print(Graphics(image, width=columns, height="auto"))
        return
    from textual_image.renderable.halfcell import Image as HalfBlocks

    console.print(HalfBlocks(image, width=columns, height="auto"))
