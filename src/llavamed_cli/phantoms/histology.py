"""A histology section, stained pink and purple: wavy fibres and scattered cell nuclei."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from llavamed_cli.phantoms.canvas import Array, Palette, clouds, filled, local, paint
from llavamed_cli.phantoms.kinds import SIDE_PIXELS
from llavamed_cli.phantoms.truth import Pose

PALETTE = Palette(mass=(255, 250, 255), cyst_wall=(190, 120, 180), cyst_inside=(8, 0, 12))

NUCLEI = 260


def background(pose: Pose, rng: np.random.Generator) -> Array:
    """The section without findings, (224, 224, 3)."""
    x, y = local(pose)
    picture = filled((226, 146, 188))
    slope = rng.uniform(-0.6, 0.6)
    wave = np.sin((y + slope * x + 7 * clouds(rng, 5)) * rng.uniform(0.42, 0.55))
    paint(picture, 0.35 * np.clip(wave, 0, 1), (198, 104, 160))
    paint(picture, 0.30 * np.clip(clouds(rng, 12), 0, 1), (238, 178, 208))
    paint(picture, 0.85 * _nuclei(rng, slope), (112, 62, 150))
    picture *= 0.95 * pose.gain
    return picture


def _nuclei(rng: np.random.Generator, slope: float) -> Array:
    """The mask of small spindle nuclei, lying roughly along the fibres; drawn at twice the size for soft edges."""
    sheet = Image.new("L", (2 * SIDE_PIXELS, 2 * SIDE_PIXELS))
    pen = ImageDraw.Draw(sheet)
    centres = rng.uniform(0, 2 * SIDE_PIXELS, size=(NUCLEI, 2))
    angles = np.arctan(-slope) + rng.normal(0, 0.35, size=NUCLEI)
    lengths = rng.uniform(4, 8, size=NUCLEI)
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for (cx, cy), angle, length in zip(centres, angles, lengths, strict=True):
        u, v = length * np.cos(turn), 3.2 * np.sin(turn)
        outline = np.stack([cx + u * np.cos(angle) - v * np.sin(angle), cy + u * np.sin(angle) + v * np.cos(angle)], 1)
        pen.polygon([(float(px), float(py)) for px, py in outline], fill=255)
    small = sheet.resize((SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255
