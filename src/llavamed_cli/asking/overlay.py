"""A map of evidence laid over its picture, as a PNG with a legend that says what it shows and what it does not."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.asking.evidence import Evidence
from llavamed_cli.files import atomic_write

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

COLOURS = "cividis"
"""Even in brightness, and read alike by people who do not tell red from green (Nunez et al. 2018)."""
STRONGEST = 0.75
"""Opacity of the part that moves the answer most: the picture shows through everywhere."""
LEAST = 0.05
"""Nats: below, the answer stays as likely as it was to within a twentieth, whichever part is covered."""
STILL = "No single part moves this answer: read the map as no evidence"
INCHES, DPI = 5.0, 120
LIMITS = (
    "Occlusion: how much less likely this answer is with a part of the picture covered by its mean colour. It shows "
    "what moved the answer, not that the answer is right; what two parts show alike may leave no trace. Hatched: the "
    "model does not see it. Research use only, not a medical device."
)


def write_overlay(pictures: Sequence[Image], evidence: Evidence, path: Path) -> None:
    """Write every picture with its map, side by side; the method and its limits stand below and in the file's text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    top = max(1e-6, *(float(drops.max()) for drops in evidence.maps))
    figure = Figure(figsize=(INCHES * len(pictures) + 1.2, INCHES + 1.2), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(pictures), squeeze=False)[0].tolist()
    drawn: Any = None
    for one, picture, drops, seen in zip(axes, pictures, evidence.maps, evidence.seen, strict=True):
        drawn = _draw(one, picture, drops, seen, top)
    figure.suptitle(STILL if top < LEAST else f"The strongest part: {top:.2g} nats", fontsize=10)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("answer leans on it: fall of its log-probability (nats)")
    width = round(len(pictures) * 78)
    figure.supxlabel("\n".join(textwrap.wrap(LIMITS, width)), fontsize=7, ha="left", x=0.02)
    with atomic_write(path, "wb") as stream:
        FigureCanvasAgg(figure).print_png(
            stream, metadata={"Title": "Evidence of an answer", "Description": f"{evidence.method}. {LIMITS}"}
        )


def _draw(axes: Any, picture: Image, drops: numpy.ndarray, seen: numpy.ndarray, top: float) -> Any:
    """One picture in greys with its map; returns what the legend's colours are read from."""
    import numpy

    width, height = picture.size
    extent = (0, width, height, 0)
    axes.imshow(picture, extent=extent)
    strength = numpy.clip(drops / top, 0, 1)
    drawn = axes.imshow(
        numpy.clip(drops, 0, None),
        cmap=COLOURS,
        vmin=0,
        vmax=top,
        extent=extent,
        alpha=numpy.where(seen, STRONGEST * strength, 0),
        interpolation="nearest",
    )
    rows, columns = drops.shape
    for row, column in zip(*numpy.nonzero(~seen), strict=True):
        left, upper = column * width / columns, row * height / rows
        axes.add_patch(_unseen((left, upper), width / columns, height / rows))
    axes.set_axis_off()
    return drawn


def _unseen(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, hatch="///", edgecolor="0.6", linewidth=0)
