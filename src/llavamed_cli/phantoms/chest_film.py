"""A chest film, seen from the front: dark lungs, ribs over them, spine, heart, diaphragm, and the letter L."""

from __future__ import annotations

import numpy as np

from llavamed_cli.phantoms.canvas import Array, Palette, clouds, ellipse, filled, grey, inside, local, paint
from llavamed_cli.phantoms.truth import Pose

PALETTE = Palette(mass=grey(255), cyst_wall=grey(190), cyst_inside=grey(0))


def background(pose: Pose, rng: np.random.Generator) -> Array:
    """The film without findings, (224, 224, 3)."""
    x, y = local(pose)
    picture = filled(grey(44))
    torso = np.maximum(ellipse(x, y - 60, 108, 190, 5, power=3), ellipse(x, y - 40, 125, 105, 6, power=4))
    paint(picture, torso * ellipse(x, y - 70, 140, 190, 6, power=6), grey(150))
    for side in (-1.0, 1.0):
        paint(picture, _lung(x, y, side), grey(92))
    lungs = np.maximum(_lung(x, y, -1.0), _lung(x, y, 1.0))
    paint(picture, 0.20 * lungs * _ribs(x, y, rng), grey(200))
    paint(picture, 0.5 * inside(np.abs(y + 84 - 0.12 * np.abs(x)) - 3.5, 2) * inside(np.abs(x) - 80, 8), grey(185))
    paint(picture, 0.8 * inside(np.abs(x) - 11, 4) * torso, grey(190))
    heart = np.maximum(ellipse(x - 10, y - 44, 28, 36, 5), ellipse(x, y + 18, 17, 44, 6))
    paint(picture, 0.9 * heart, grey(196))
    picture += 5 * clouds(rng, 9)[..., None]
    picture *= pose.gain
    _letter(picture)
    return picture


def _lung(x: Array, y: Array, side: float) -> Array:
    """One lung: narrow at the top, broad at the base."""
    half_width = 33 + 7 * np.clip((y + 98) / 196, 0, 1)
    level = np.abs((x - side * 52) / half_width) ** 2.6 + np.abs(y / 99) ** 2.6
    return inside((level ** (1 / 2.6) - 1) * 36, 2.5)


def _ribs(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Bands that fall outwards from the spine, evenly spaced."""
    phase = rng.uniform(0, 25)
    bend = y - 0.006 * (np.abs(x) - 22) ** 2 + phase
    return inside(np.abs(np.mod(bend, 25) - 12.5) - 3.5, 2)


def _letter(picture: Array) -> None:
    """The lead letter at the patient's left: the picture's right."""
    picture[8:28, 204:208] = 235
    picture[24:28, 204:216] = 235
