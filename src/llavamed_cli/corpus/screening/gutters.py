"""Finds the panels of a composed picture by the gutters between them: a recursive cut along bands of one colour.

It errs towards not cutting. A band counts only where pictures end at it along a straight line, on both sides: the dark
between two legs, or the white lumen of a vessel, is as plain as a gutter, but its borders are not straight. So panels
whose own margins have the gutter's colour (line drawings on white, CT slices beside each other on black) stay together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Box = tuple[int, int, int, int]
"""left, upper, right, lower, in pixels, as `PIL.Image.crop` takes it."""

LONGEST_SIDE = 1600
"""Pixels. A larger picture is looked at in a smaller copy; a gutter of the copy is still one pixel or more wide."""
TOLERANCE = 16
"""Grey levels from a band's colour within which a pixel belongs to it: JPEG leaves that much beside an edge."""
STRAY = 0.04
"""The share of a line in a gutter that may differ: letters, and frames that cross it."""
EDGE_REACH = 3
"""Pixels over which an edge may be blurred."""
EDGE = 0.5
"""The share of a gutter's length along which a panel must end at it. Chosen on the pictures of VQA-RAD: at 0.3, singles
are cut as soon as the other limits are looser."""
SMALLEST_SHARE, SMALLEST_SIDE = 0.12, 24
"""A panel's least extent, of what is cut and in pixels; below, it is a colour bar, a label or a scrap."""
DEEPEST = 6
"""Cuts one within the other: rows of columns of rows are three."""


@dataclass(frozen=True)
class _Band:
    """Neighbouring lines of one colour, `start` up to `end` without it."""

    start: int
    end: int
    colour: int


def find_gutters(picture: Image.Image) -> list[Box]:
    """The boxes of the panels, by rows, each from left to right. A single picture gives one: the whole."""
    import numpy as np

    factor = max(1, -(-max(picture.size) // LONGEST_SIDE))
    grey = np.asarray(picture.convert("L").reduce(factor) if factor > 1 else picture.convert("L"))
    whole = (0, 0, grey.shape[1], grey.shape[0])
    boxes = list(_cut(grey, whole, DEEPEST))
    if len(boxes) < 2:
        return [(0, 0, *picture.size)]
    width, height = picture.size
    return [(x * factor, y * factor, min(r * factor, width), min(b * factor, height)) for x, y, r, b in boxes]


def _cut(grey: NDArray[np.uint8], box: Box, depth: int, colours: tuple[int, ...] = ()) -> Iterator[Box]:
    """The panels of `box`: cut into rows if it can be, else into columns, and each part again. colours: of gutters."""
    left, upper, right, lower = box
    inside = grey[upper:lower, left:right]
    for rows in (True, False):
        parts, found = _parts(inside if rows else inside.T) if depth else ([], ())
        for start, end in parts:
            part = (left, upper + start, right, upper + end) if rows else (left + start, upper, left + end, lower)
            yield from _cut(grey, part, depth - 1, colours + found)
        if parts:
            return
    top, bottom = _without_margins(inside, _bands(inside), colours)
    first, last = _without_margins(inside.T, _bands(inside.T), colours)
    yield left + first, upper + top, left + last, upper + bottom


def _parts(lines: NDArray[np.uint8]) -> tuple[list[tuple[int, int]], tuple[int, ...]]:
    """Where the parts between gutters begin and end, and the gutters' colours; nothing where none is found."""
    extent = len(lines)
    smallest = max(SMALLEST_SIDE, round(SMALLEST_SHARE * extent))
    bands = _bands(lines)
    inner = [band for band in bands if smallest <= band.start and band.end <= extent - smallest]
    gutters = _joined([band for band in inner if _ends_before(lines, band) and _ends_after(lines, band)])
    if not gutters:
        return [], ()
    colours = tuple(gutter.colour for gutter in gutters)
    first, last = _without_margins(lines, bands, colours)
    edges = [first, *(edge for gutter in gutters for edge in (gutter.start, gutter.end)), last]
    parts = list(zip(edges[::2], edges[1::2], strict=True))
    return (parts, colours) if all(end - start >= smallest for start, end in parts) else ([], ())


def _without_margins(lines: NDArray[np.uint8], bands: list[_Band], colours: tuple[int, ...]) -> tuple[int, int]:
    """Where what lies between margins of these colours begins and ends; a margin is one if a picture ends at it."""
    extent = len(lines)
    margins = [band for band in bands if any(abs(band.colour - colour) <= TOLERANCE for colour in colours)]
    first = next((band.end for band in margins if band.start == 0 and _ends_after(lines, band)), 0)
    last = next((band.start for band in margins if band.end == extent and _ends_before(lines, band)), extent)
    return (first, last) if first < last else (0, extent)


def _bands(lines: NDArray[np.uint8]) -> list[_Band]:
    """The runs of lines that are of one colour but for strays."""
    import numpy as np

    colours = np.median(lines, axis=1).astype(np.int16)
    stray = (np.abs(lines - colours[:, None]) > TOLERANCE).mean(axis=1)
    bands: list[_Band] = []
    for index in np.flatnonzero(stray <= STRAY).tolist():
        colour = int(colours[index])
        if bands and bands[-1].end == index and abs(bands[-1].colour - colour) <= TOLERANCE:
            bands[-1] = _Band(bands[-1].start, index + 1, bands[-1].colour)
        else:
            bands.append(_Band(index, index + 1, colour))
    return bands


def _joined(gutters: list[_Band]) -> list[_Band]:
    """Gutters at each other's side made one, of the widest one's colour: a gutter and the frames along it."""
    groups: list[list[_Band]] = []
    for gutter in gutters:
        if groups and gutter.start - groups[-1][-1].end <= EDGE_REACH:
            groups[-1].append(gutter)
        else:
            groups.append([gutter])
    widest = [max(group, key=lambda band: band.end - band.start) for group in groups]
    return [_Band(group[0].start, group[-1].end, band.colour) for group, band in zip(groups, widest, strict=True)]


def _ends_before(lines: NDArray[np.uint8], band: _Band) -> bool:
    """Whether a picture ends where a band begins, along most of its length."""
    return _differing(lines[max(0, band.start - EDGE_REACH) : band.start], band.colour) >= EDGE


def _ends_after(lines: NDArray[np.uint8], band: _Band) -> bool:
    """Whether a picture begins where a band ends."""
    return _differing(lines[band.end : band.end + EDGE_REACH], band.colour) >= EDGE


def _differing(lines: NDArray[np.uint8], colour: int) -> float:
    """The share that differs from a colour, of the line where most does."""
    import numpy as np

    if not len(lines):
        return 0.0
    return float((np.abs(lines.astype(np.int16) - colour) > TOLERANCE).mean(axis=1).max())
