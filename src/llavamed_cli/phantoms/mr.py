"""An MR slice through the brain, T1-like: scalp, dark skull, folded grey and white matter, dark ventricles."""

from __future__ import annotations

import numpy as np

from llavamed_cli.phantoms.canvas import Array, Palette, clouds, ellipse, filled, grey, inside, local, paint
from llavamed_cli.phantoms.truth import Pose

PALETTE = Palette(mass=grey(255), cyst_wall=grey(190), cyst_inside=grey(0))


def background(pose: Pose, rng: np.random.Generator) -> Array:
    """The slice without findings, (224, 224, 3)."""
    x, y = local(pose)
    picture = filled(grey(40))
    paint(picture, ellipse(x, y, 96, 108, 1.5), grey(176))
    paint(picture, ellipse(x, y, 91.5, 103.5, 1.2), grey(52))
    paint(picture, ellipse(x, y, 87, 99, 1.5), grey(106))
    paint(picture, _white_matter(x, y, rng), grey(146))
    for side in (-1.0, 1.0):
        paint(picture, ellipse(x - side * 17, y - 4, 9, 15, 3), grey(104))
        _ventricle(picture, side * x, y)
    brain = ellipse(x, y, 86, 98, 1.5)
    fissure = inside(np.abs(x) - 0.8, 1.2) * (1 - ellipse(x, y, 30, 34, 4))
    paint(picture, 0.85 * fissure * brain, grey(60))
    picture += (brain * 4 * clouds(rng, 20))[..., None]
    picture *= pose.gain
    return picture


def _white_matter(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """A smaller brain whose edge runs in and out as the cortex folds, mirrored with a little difference."""
    angle = np.arctan2(y, np.abs(x) + 1e-6)
    radius = np.hypot(x / 87, y / 99)
    folds = 0.055 * np.sin(17 * angle + rng.uniform(0, 6.28) + 0.4 * np.sign(x))
    folds += 0.03 * np.sin(31 * angle + rng.uniform(0, 6.28))
    return inside((radius - 0.82 - folds) * 90, 1.8)


def _ventricle(picture: Array, x: Array, y: Array) -> None:
    """One horn in front, one behind, curving outwards from the middle (for x > 0)."""
    front = ellipse(x - 7 - 0.012 * (y + 8) ** 2, y + 19, 4.5, 19, 1.5)
    back = ellipse(x - 8 - 0.010 * (y - 14) ** 2, y - 29, 4.0, 19, 1.5)
    paint(picture, np.maximum(front, back), grey(72))
