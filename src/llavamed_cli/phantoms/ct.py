"""A CT slice through the upper abdomen: fat, wall, liver, spleen, kidneys, spine and aorta on dark grey."""

from __future__ import annotations

import numpy as np

from llavamed_cli.phantoms.canvas import Array, Palette, clouds, ellipse, filled, grey, inside, local, paint
from llavamed_cli.phantoms.truth import Pose

PALETTE = Palette(mass=grey(255), cyst_wall=grey(190), cyst_inside=grey(0))


def background(pose: Pose, rng: np.random.Generator) -> Array:
    """The slice without findings, (224, 224, 3)."""
    x, y = local(pose)
    picture = filled(grey(40))
    paint(picture, ellipse(x, y, 105, 84, 1.2, power=2.2), grey(84))
    wall = ellipse(x, y, 98, 77, 1.5, power=2.2)
    paint(picture, wall, grey(128))
    cavity = ellipse(x, y + 2, 89, 68, 1.5, power=2.2)
    paint(picture, cavity, grey(108))
    paint(picture, _ribs(x, y), grey(186))
    paint(picture, cavity * ellipse(x + 52, y + 10, 52, 52, 2, power=2.4), grey(146))
    paint(picture, cavity * ellipse(x - 74, y - 14, 17, 34, 2), grey(150))
    paint(picture, cavity * ellipse(x - 30, y + 34, 34, 22, 2), grey(120))
    mirrored = np.abs(x)
    paint(picture, ellipse(mirrored - 44, y - 40, 15, 19, 1.5), grey(164))
    paint(picture, ellipse(mirrored - 40, y - 40, 6, 9, 2), grey(112))
    paint(picture, ellipse(mirrored - 24, y - 62, 18, 12, 2), grey(126))
    paint(picture, ellipse(x, y - 48, 17, 13, 1.2), grey(224))
    paint(picture, ellipse(x, y - 48, 13, 9, 1.5), grey(186))
    paint(picture, ellipse(x, y - 66, 5, 10, 1.2), grey(220))
    paint(picture, ellipse(x, y - 65, 7, 5, 1.2), grey(100))
    paint(picture, ellipse(x - 7, y - 26, 7, 7, 1.2), grey(196))
    picture += (wall * 4 * clouds(rng, 28))[..., None]
    picture *= pose.gain
    return picture


def _ribs(x: Array, y: Array) -> Array:
    """The mask of short arcs in the wall, four on each side, the same on both."""
    ring = inside((np.abs(np.hypot(x / 94, y / 73) - 1) - 0.04) * 80, 1.2)
    angle = np.arctan2(y / 73, np.abs(x) / 94)
    dashes = inside((np.abs(np.mod(angle + 0.08, 0.5) - 0.25) - 0.15) * 90, 1.5)
    return ring * dashes * inside((np.abs(angle) - 0.9) * 90)
