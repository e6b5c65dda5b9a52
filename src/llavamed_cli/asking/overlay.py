"""A map of evidence as a PNG: the picture, the picture under the map, and a legend with what it can and cannot say.

Colour and opacity grow with the effect, on a scale that ends at a factor of 5 or more: where nothing moved the
answer the picture stays clear, instead of noise being stretched until it looks like a finding. Orange and blue are
told apart with any colour vision (Okabe and Ito 2008) and are in no grey picture. The file's text has the words too.
"""

from __future__ import annotations

import io
import json
import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli import __version__
from llavamed_cli.asking.evidence import FAINT, LIMITS, METHOD, Evidence, PictureMap
from llavamed_cli.files import atomic_write
from llavamed_cli.report_page import DISCLAIMER

if TYPE_CHECKING:
    from matplotlib.colors import ListedColormap
    from PIL.Image import Image

FOR, AGAINST = (1.0, 0.62, 0.0), (0.20, 0.60, 1.0)
"""What makes the answer likelier, and what makes it less likely."""
OPAQUE = 0.8
LEAST_SCALE = math.log(5)
DPI = 144
PANEL, GAP, MARGIN = 4.6, 0.12, 0.25
"""Inches: a panel's longer side, between panels, and around all."""
BAR, BAR_LABELS, BAR_TITLE = 0.16, 0.95, 0.36
LARGE, SMALL = 9.5, 7.5
"""Points of the question and the answer, and of all else."""
SPACING, LEADING = 1.35, 1.02
"""Between lines, of a line; and a line, of its points."""
CHARACTER = 0.56
"""How wide one is, of its height."""
MOST_PIXELS = 2 * round(PANEL * DPI)
"""Of a picture's longer side: twice what a panel shows. More would be resampled at the price of gigabytes."""
MOST_QUOTED = 400
GREY_GROUND = 0.45
OTHER_SCRIPTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "PingFang SC", "Microsoft YaHei")
"""Fonts that write Chinese, where one of them is installed."""
NICE = tuple(math.log(one * 10**power) for power in range(7) for one in (1, 2, 5))


def write_overlay(pictures: Sequence[Image], evidence: Evidence, path: Path) -> None:
    """Write one PNG with a row for each picture: plain, and under its map. Whole or not at all.

    Its text chunks hold the method, its limits, the question, the answer and the figures (`llavamed`, as JSON); no file
    name and nothing of a medical header.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _figure(pictures, evidence)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a script that no font here writes
        FigureCanvasAgg(figure).print_png(stream, metadata=_metadata(evidence))
    with atomic_write(path, "wb") as file:
        file.write(stream.getvalue())


def verdict(evidence: Evidence) -> str:
    """What the figures say, in a sentence or two."""
    strongest = max(one.strongest for one in evidence.maps)
    whole = max(abs(one.whole) for one in evidence.maps)
    if max(strongest, whole) < math.log(FAINT):
        return "This answer does not rest on the picture: hiding it, in part or whole, hardly changes the odds."
    changes = [_changed(one.whole) for one in evidence.maps]
    if len(changes) == 1:
        told = f"With the picture the odds of this answer are {changes[0]} without it."
    else:
        each = "; ".join(f"picture {number}, {change} without it" for number, change in enumerate(changes, start=1))
        told = f"The odds of this answer: with {each}."
    if strongest < math.log(FAINT):
        told += " No single part changes them much."
    return told


def _changed(effect: float) -> str:
    if abs(effect) < math.log(FAINT):
        return "about the same as"
    return f"{_factor(abs(effect))} times {'higher' if effect > 0 else 'lower'} than"


def _factor(effect: float) -> str:
    """e to the effect, as a person says it: 1.7, 40, 3,000, 10^8."""
    power = effect / math.log(10)
    if power >= 6:
        return f"10^{power:.0f}"
    value = math.exp(effect)
    return f"{value:.2g}" if value < 9.95 else f"{float(f'{value:.2g}'):,.0f}"


def _figure(pictures: Sequence[Image], evidence: Evidence) -> Any:
    """All of it, laid out in inches so that each picture keeps its shape."""
    from matplotlib.figure import Figure

    sizes = [_panel(*picture.size) for picture in pictures]
    widest = max(width for width, _ in sizes)
    across = 2 * widest + 2 * GAP + BAR + BAR_LABELS
    head, foot = _head(evidence, across), _foot(evidence, across)
    down = sum(high + GAP for _, high in sizes)
    above, below = _text_height(head, LARGE), _text_height(foot, SMALL)
    width, height = across + 2 * MARGIN, above + down + below + 2 * MARGIN + GAP
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def axes(left: float, top: float, wide: float, high: float) -> Any:
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    limit = _limit(evidence)
    _write(figure, MARGIN / width, 1 - MARGIN / height, head, LARGE)
    first = top = MARGIN + above + GAP
    for picture, (wide, high), one in zip(pictures, sizes, evidence.maps, strict=True):
        _draw_plain(axes(MARGIN, top, wide, high), picture)
        _draw_map(axes(MARGIN + widest + GAP, top, wide, high), picture, one, limit)
        top += high + GAP
    left = MARGIN + 2 * (widest + GAP)
    _draw_bar(axes(left, first + BAR_TITLE, BAR, max(0.9, min(top - GAP - first, PANEL) - BAR_TITLE)), limit)
    _write(figure, MARGIN / width, 1 - top / height, foot, SMALL)
    return figure


def _text_height(lines: Sequence[str], points: float) -> float:
    return len(lines) * points * SPACING * LEADING / 72


def _panel(width: int, height: int) -> tuple[float, float]:
    """Inches of a picture whose longer side is a panel's. A narrow one is drawn wider than it is, to stay visible."""
    scale = PANEL / max(width, height)
    return max(width * scale, PANEL / 3), max(height * scale, PANEL / 3)


def _head(evidence: Evidence, inches: float) -> list[str]:
    asked = textwrap.shorten(evidence.question, MOST_QUOTED, placeholder=" ...")
    said = textwrap.shorten(evidence.answer, MOST_QUOTED, placeholder=" ...")
    wide = _characters(inches, LARGE)
    return [*textwrap.wrap(f"Q: {asked}", wide), *textwrap.wrap(f"A: {said}", wide)]


def _foot(evidence: Evidence, inches: float) -> list[str]:
    cropped = any(one.placement.cropped for one in evidence.maps)
    never = "Hatched: cut away before the model, which never saw it." if cropped else ""
    texts = (verdict(evidence), METHOD, LIMITS, never, DISCLAIMER)
    return [line for text in texts for line in textwrap.wrap(text, _characters(inches, SMALL))]


def _characters(inches: float, points: float) -> int:
    return round(inches * 72 / (points * CHARACTER))


def _write(figure: Any, left: float, top: float, lines: Sequence[str], points: float) -> None:
    text = figure.text(left, top, "\n".join(lines), va="top", size=points, linespacing=SPACING, color="#111111")
    text.set_parse_math(False)  # a dollar sign in an answer is a dollar sign
    text.set_fontfamily(_fonts())


def _fonts() -> list[str]:
    from matplotlib import font_manager

    here = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in here)]


def _limit(evidence: Evidence) -> float:
    """The scale's end: the strongest effect, rounded up to odds of 2, 5, 10, 20 and so on."""
    strongest = max(LEAST_SCALE, *(one.strongest for one in evidence.maps))
    return next((nice for nice in NICE if nice >= strongest - 1e-9), strongest)


def _draw_plain(axes: Any, picture: Image) -> None:
    axes.imshow(_small(picture), aspect="auto")
    axes.set_axis_off()


def _small(picture: Image) -> Image:
    small = picture.copy()
    small.thumbnail((MOST_PIXELS, MOST_PIXELS))
    return small


def _draw_map(axes: Any, picture: Image, one: PictureMap, limit: float) -> None:
    """The picture in grey, under its map and, where the model never saw it, under hatching."""
    import numpy
    from matplotlib.patches import Rectangle

    width, height = picture.size
    place = one.placement
    axes.imshow(
        _small(picture).convert("L"), cmap="gray", vmin=0, vmax=255, aspect="auto", extent=(0, width, height, 0)
    )
    effect = numpy.ma.masked_invalid(one.effect)
    extent = (place.left, place.right, place.bottom, place.top)
    scale: dict[str, Any] = {"cmap": _colours(), "vmin": -limit, "vmax": limit}
    axes.imshow(effect, extent=extent, aspect="auto", interpolation="bilinear", **scale)
    _outline(axes, one, limit)
    left, top, right, bottom = place.seen
    cut = ((0, 0, width, top), (0, bottom, width, height), (0, top, left, bottom), (right, top, width, bottom))
    for x0, y0, x1, y1 in cut if place.cropped else ():
        look: dict[str, Any] = {"facecolor": (0, 0, 0, 0.55), "edgecolor": "0.75", "hatch": "////", "linewidth": 0}
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **look))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()


def _outline(axes: Any, one: PictureMap, limit: float) -> None:
    """A line around what changes the odds by half the scale or more, so that the place is found in any picture."""
    import numpy

    place = one.placement
    rows, columns = one.effect.shape
    x = place.left + (numpy.arange(columns) + 0.5) * (place.right - place.left) / columns
    y = place.top + (numpy.arange(rows) + 0.5) * (place.bottom - place.top) / rows
    effect = numpy.nan_to_num(one.effect)
    for level, colour in ((limit / 2, FOR), (-limit / 2, AGAINST)):
        if effect.min() < level < effect.max():
            axes.contour(x, y, effect, levels=[level], colors=["black"], linewidths=2.2, linestyles="solid")
            axes.contour(x, y, effect, levels=[level], colors=[colour], linewidths=1.2, linestyles="solid")


def _colours() -> ListedColormap:
    """Blue over clear to orange, opacity growing with the distance from the middle."""
    import numpy
    from matplotlib.colors import ListedColormap

    steps = numpy.linspace(-1, 1, 255)
    table = numpy.empty((255, 4))
    table[:, :3] = numpy.where(steps[:, None] > 0, FOR, AGAINST)
    table[:, 3] = OPAQUE * numpy.abs(steps)
    return ListedColormap(table)


def _draw_bar(axes: Any, limit: float) -> None:
    """The legend: the colours as they look on grey, and what they mean in words."""
    import numpy

    steps = numpy.linspace(limit, -limit, 255)[:, None]
    axes.set_facecolor((GREY_GROUND,) * 3)
    axes.imshow(steps, cmap=_colours(), aspect="auto", extent=(0, 1, -limit, limit), vmin=-limit, vmax=limit)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    half, whole = _factor(limit / 2), _factor(limit)
    labels = [f"× {whole}\nspeaks for it", f"× {half}", "no change", f"÷ {half}", f"÷ {whole}\nspeaks\nagainst it"]
    axes.set_yticks([limit, limit / 2, 0, -limit / 2, -limit], labels, size=SMALL)
    for label, side in zip(axes.get_yticklabels(), ("top", "center", "center", "center", "bottom"), strict=True):
        label.set_verticalalignment(side)
    axes.tick_params(length=2, pad=2)
    axes.set_title("this part makes the\nodds of the answer", size=SMALL, pad=5, loc="left")


def _metadata(evidence: Evidence) -> dict[str, str]:
    """The file's text chunks. `llavamed` holds the figures; a map is 12 x 12 means over the view, null where blank."""
    figures = {
        "method": "occlusion",
        "question": evidence.question,
        "answer": evidence.answer,
        "probability": round(evidence.probability, 6),
        "unit": "nats of log-odds gained by the part",
        "pictures": [
            {
                "size": list(one.placement.size),
                "seen": [round(edge, 1) for edge in one.placement.seen],
                "view": [round(getattr(one.placement, side), 1) for side in ("left", "top", "right", "bottom")],
                "whole": round(one.whole, 3),
                "map": _coarse(one),
            }
            for one in evidence.maps
        ],
    }
    return {
        "Title": "Where an answer looked",
        "Description": f"{METHOD} {LIMITS} {verdict(evidence)}",
        "Disclaimer": DISCLAIMER,
        "Software": f"llavamed {__version__}",
        "llavamed": json.dumps(figures, ensure_ascii=False),
    }


def _coarse(one: PictureMap, cells: int = 12) -> list[list[float | None]]:
    import numpy

    def mean(part: numpy.ndarray) -> float | None:
        return None if numpy.isnan(part).all() else round(float(numpy.nanmean(part)), 3)

    rows = numpy.array_split(one.effect, cells, axis=0)
    return [[mean(part) for part in numpy.array_split(row, cells, axis=1)] for row in rows]
