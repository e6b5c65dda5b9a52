"""Draws a phantom: its anatomy, then its findings, then the scale bar, then noise, each from its own random stream.

So a finding changes the pixels inside its circle and no others. Imports numpy at the top: only `Phantom.picture`
imports it, when something is drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from llavamed_cli.phantoms import chest_film, ct, histology, mr
from llavamed_cli.phantoms.canvas import Array, Palette, X, Y, inside, paint
from llavamed_cli.phantoms.kinds import KindName
from llavamed_cli.phantoms.truth import Disc, Phantom, Pose

ANATOMY_LEVELS = (55.0, 175.0)
"""Anatomy keeps to these levels: white is left to masses and black to what fills a cyst, in every kind of picture, so
that a small model made from nothing can learn to tell them within minutes."""

Background = Callable[[Pose, np.random.Generator], Array]

_PAINTERS: dict[KindName, tuple[Background, Palette]] = {
    "chest-film": (chest_film.background, chest_film.PALETTE),
    "ct": (ct.background, ct.PALETTE),
    "mr": (mr.background, mr.PALETTE),
    "histology": (histology.background, histology.PALETTE),
}


def draw(phantom: Phantom) -> Image.Image:
    """The picture of a phantom: RGB, 224 x 224; the same for the same phantom."""
    truth = phantom.truth
    background, palette = _PAINTERS[truth.kind.name]
    darkest, brightest = ANATOMY_LEVELS
    picture = darkest + background(truth.pose, phantom.generator("anatomy")) * ((brightest - darkest) / 255)
    rng = phantom.generator("findings")
    for finding in truth.findings:
        for place in finding.places:
            if finding.name == "mass":
                _mass(picture, place, palette, rng)
            else:
                _cyst(picture, place, palette)
    if truth.scale_bar:
        _scale_bar(picture)
    picture += _noise(phantom)
    return Image.fromarray(np.clip(picture, 0, 255).round().astype(np.uint8))


def _mass(picture: Array, place: Disc, palette: Palette, rng: np.random.Generator) -> None:
    """A solid body with a slightly knobbly outline that touches its circle from inside."""
    angle = np.arctan2(Y - place.y, X - place.x)
    outline = place.radius - 1 - 0.07 * place.radius * (1 + np.sin(5 * angle + rng.uniform(0, 6.28))) / 2
    paint(picture, inside(_distance(place) - outline), palette.mass)


def _cyst(picture: Array, place: Disc, palette: Palette) -> None:
    """A round hollow with a thin wall."""
    distance = _distance(place)
    paint(picture, inside(distance - (place.radius - 1)), palette.cyst_wall)
    paint(picture, inside(distance - (0.85 * place.radius - 1)), palette.cyst_inside)


def _distance(place: Disc) -> Array:
    return np.hypot(X - place.x, Y - place.y)


def _scale_bar(picture: Array) -> None:
    """An upright ruler at the picture's left edge, light on dark, clear of every place where a finding may lie."""
    picture[79:145, 1:10] = 60
    picture[80:144, 2:6] = 205
    for top in range(80, 144, 12):
        picture[top : top + 4, 2:9] = 205


def _noise(phantom: Phantom) -> Array:
    """Grain of a strength of its own, (224, 224, 1): the same in all three colours."""
    rng = phantom.generator("noise")
    strength = rng.uniform(2, 6)
    return rng.standard_normal(size=(*X.shape, 1), dtype=np.float32) * np.float32(strength)
