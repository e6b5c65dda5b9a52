"""What is asked of a picture file and what it turns out to be: plain facts, and never a word of a medical header."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.errors import PictureError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 100_000_000
"""A picture above this is refused unread: a few kilobytes of PNG can ask for gigabytes."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What of a file to show.

    window: (centre, width) of the grey levels to spread from black to white, in the file's own units (Hounsfield for
    CT). frame: which frame, page or slice, counted from 1 as DICOM counts. None leaves each to the file.

    Raises:
        UsageError: a width that is not above 0, a number that is none, or a frame below 1.
    """

    window: tuple[float, float] | None = None
    frame: int | None = None

    def __post_init__(self) -> None:
        if self.window and not (all(math.isfinite(part) for part in self.window) and self.window[1] > 0):
            raise UsageError(f"a window is a centre and a width above 0, not {self.window[0]:g},{self.window[1]:g}")
        if self.frame is not None and self.frame < 1:
            raise UsageError(f"frames are counted from 1, not {self.frame}")


DEFAULT_VIEW = View()


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What was read.

    format: PNG, JPEG, DICOM, NIfTI and so on. mode: the pixels as stored. frame: the one shown, of `frames`.
    window: (centre, width) where one was applied. modality: DICOM's code (CT, MR), the one header field that leaves.
    notes: sentences about what was chosen where the file left a choice.
    """

    format: str
    mode: str
    width: int
    height: int
    frames: int = 1
    frame: int = 1
    window: tuple[float, float] | None = None
    modality: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """An 8-bit RGB image and where it came from."""

    image: Image
    facts: PictureFacts


def chosen_frame(view: View, frames: int, default: int, where: Path) -> int:
    """The frame to show, counted from 1.

    Raises:
        UsageError: the view names one that the file does not have.
    """
    if view.frame is not None and view.frame > frames:
        raise UsageError(f"frame {view.frame} was asked for; the file has {frames}", where=str(where))
    return view.frame or default


def frame_notes(view: View, frame: int, frames: int) -> tuple[str, ...]:
    """What to say where a file of several frames was opened without naming one."""
    return (f"frame {frame} of {frames} is shown; --frame picks another",) if frames > 1 and not view.frame else ()


def check_size(width: int, height: int, where: Path) -> None:
    """Refuse what is too large to read safely, before it is decoded.

    Raises:
        PictureError: more than MAX_PIXELS, or none.
    """
    if width < 1 or height < 1:
        raise PictureError("the picture has no pixels", where=str(where))
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{width} x {height} pixels, more than the {MAX_PIXELS:,} that are read",
            where=str(where),
            hint="Make it smaller first; a model sees a few hundred pixels a side.",
        )
