"""Soft-edged shapes on a float picture; the few strokes from which every phantom is painted.

A picture is a float32 array (224, 224, 3), 0 to 255; a mask is one of (224, 224), 0 to 1. Coordinates are pixels,
x to the right and y down. Imports numpy at the top, so it is imported only where something is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from llavamed_cli.phantoms.kinds import SIDE_PIXELS
from llavamed_cli.phantoms.truth import Pose

Array = NDArray[np.floating]
Colour = tuple[float, float, float]

Y, X = np.mgrid[0:SIDE_PIXELS, 0:SIDE_PIXELS].astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The colours of findings in one kind of picture: a solid mass, a cyst's wall and what fills it."""

    mass: Colour
    cyst_wall: Colour
    cyst_inside: Colour


def grey(level: float) -> Colour:
    """A grey of that level, 0 to 255."""
    return (level, level, level)


def filled(colour: Colour) -> Array:
    """A picture of one colour."""
    return np.full((SIDE_PIXELS, SIDE_PIXELS, 3), colour, dtype=np.float32)


def paint(picture: Array, mask: Array, colour: Colour) -> None:
    """Lay a colour over the picture, in place, as opaque as the mask says."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size:
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        picture[box] += mask[box][..., None] * (np.array(colour, dtype=np.float32) - picture[box])


def local(pose: Pose) -> tuple[Array, Array]:
    """Each pixel's (x, y) from the middle of the anatomy, in pixels at scale 1."""
    return (X - pose.x) / pose.scale, (Y - pose.y) / pose.scale


def inside(distance: Array, softness: float = 1.0) -> Array:
    """The mask of where a signed distance (pixels) is negative, with an edge that many pixels wide on each side."""
    return np.clip(0.5 - distance / (2 * softness), 0.0, 1.0)


def ellipse(x: Array, y: Array, rx: float, ry: float, softness: float = 1.0, power: float = 2.0) -> Array:
    """The mask of an ellipse around the origin; a power above 2 squares its shoulders."""
    if power == 2.0:
        level = np.hypot(x / rx, y / ry)
    else:
        level = (np.abs(x / rx) ** power + np.abs(y / ry) ** power) ** (1 / power)
    return inside((level - 1.0) * min(rx, ry), softness)


def clouds(rng: np.random.Generator, cells: int) -> Array:
    """Smooth random texture of mean about 0 and deviation about 1, `cells` blobs across."""
    coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    fine = coarse.resize((SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.BICUBIC)
    return np.asarray(fine, dtype=np.float32)
