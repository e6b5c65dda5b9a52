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
    from matplotlib.colors import ListedColormap
    from PIL.Image import Image

FOR, AGAINST = (1.0, 0.62, 0.0), (0.20, 0.60, 1.0)
"""Orange and blue: told apart with any colour vision (Okabe and Ito 2008), and in no grey picture."""
STRONGEST = 0.75
"""Opacity of the part that moves the answer most: the picture shows through everywhere."""
LEAST = 0.05
"""Nats: below, the answer stays as likely as it was to within a twentieth, whichever part is covered."""
SCALE = 0.7
"""Nats at the scale's end, at least: half or twice as likely. Noise is not stretched until it looks like a finding."""
STILL = "No single part moves this answer: read the map as no evidence"
PANEL, NARROWEST, BELOW, BESIDE, DPI = 5.0, 1.2, 1.3, 1.4, 120
"""Inches of a picture's longer side, of its shorter one at least, of the words below and of the legend."""
GROUND = "0.45"
LIMITS = (
    "Occlusion: how much less (orange) or more (blue) likely this answer is with a part of the picture covered by its "
    "mean colour. It shows what moved the answer, not that the answer is right; what two parts show alike may leave no "
    "trace. Hatched: the model does not see it. Research use only, not a medical device."
)


def write_overlay(pictures: Sequence[Image], evidence: Evidence, path: Path) -> None:
    """Write every picture with its map, side by side; the method and its limits stand below and in the file's text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    top = max(float(abs(drops).max()) for drops in evidence.maps)
    sizes = [_panel(picture) for picture in pictures]
    across = sum(width for width, _ in sizes)
    figure = Figure(
        figsize=(across + BESIDE, max(2.0, *(high for _, high in sizes)) + BELOW), dpi=DPI, layout="constrained"
    )
    axes = figure.subplots(1, len(pictures), squeeze=False, width_ratios=[width for width, _ in sizes])[0].tolist()
    drawn: Any = None
    for one, picture, drops, seen in zip(axes, pictures, evidence.maps, evidence.seen, strict=True):
        drawn = _draw(one, picture, drops, seen, max(top, SCALE))
    bar = figure.colorbar(drawn, ax=axes, aspect=25, pad=0.02)
    bar.ax.set_facecolor(GROUND)
    bar.set_label("fall of the answer's log-probability (nats)", fontsize=8)
    words = (STILL if top < LEAST else f"The strongest part: {top:.2g} nats", LIMITS)
    wide = round((across + BESIDE) * 17)
    figure.supxlabel(
        "\n".join(line for text in words for line in textwrap.wrap(text, wide)), fontsize=7, ha="left", x=0.02
    )
    with atomic_write(path, "wb") as stream:
        FigureCanvasAgg(figure).print_png(
            stream, metadata={"Title": "Evidence of an answer", "Description": f"{evidence.method}. {LIMITS}"}
        )


def _panel(picture: Image) -> tuple[float, float]:
    """Inches of a picture that keeps its shape."""
    scale = PANEL / max(picture.size)
    return max(NARROWEST, picture.width * scale), max(NARROWEST, picture.height * scale)


def _colours() -> ListedColormap:
    """Blue over clear to orange, opacity growing with the distance from the middle."""
    import numpy
    from matplotlib.colors import ListedColormap

    steps = numpy.linspace(-1, 1, 255)
    table = numpy.empty((255, 4))
    table[:, :3] = numpy.where(steps[:, None] > 0, FOR, AGAINST)
    table[:, 3] = STRONGEST * abs(steps)
    return ListedColormap(table)


def _draw(axes: Any, picture: Image, drops: numpy.ndarray, seen: numpy.ndarray, end: float) -> Any:
    """One picture in greys with its map; returns what the legend's colours are read from. end: the scale's, in nats."""
    import numpy

    width, height = picture.size
    extent = (0, width, height, 0)
    axes.imshow(picture.convert("L"), cmap="gray", vmin=0, vmax=255, extent=extent)
    shown = numpy.ma.masked_array(drops, ~seen)
    drawn = axes.imshow(shown, cmap=_colours(), vmin=-end, vmax=end, extent=extent, interpolation="nearest")
    rows, columns = drops.shape
    for row, column in zip(*numpy.nonzero(~seen), strict=True):
        left, upper = column * width / columns, row * height / rows
        axes.add_patch(_unseen((left, upper), width / columns, height / rows))
    if abs(drops).max() >= SCALE:
        row, column = numpy.unravel_index(abs(drops).argmax(), drops.shape)
        axes.add_patch(_strongest((column * width / columns, row * height / rows), width / columns, height / rows))
    axes.set_axis_off()
    return drawn


def _strongest(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor="white", linewidth=1.5)


def _unseen(corner: tuple[float, float], width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, facecolor=(0, 0, 0, 0.45), hatch="///", edgecolor="0.7", linewidth=0)
