"""The forest plot of one benchmark: strict accuracy with its interval, of every answerer, overall and in each stratum.

Only geometry is made here, in SVG's units; the template draws it, so that every name in it is escaped like any text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llavamed_cli.evaluation.headlines import OVERALL, Headline
from llavamed_cli.evaluation.table import shorten

LEFT, RIGHT, WIDTH = 220.0, 560.0, 760.0
"""Where 0 and 100 percent stand, and how wide the whole is: names on the left, numbers on the right."""
LINE, GAP, HEADING, TOP = 17.0, 7.0, 26.0, 26.0
"""Heights of an answerer's line, of the space below a stratum, of a property's name, and of the axis above all."""
SHAPES = (
    "M-4.5,0 a4.5,4.5 0 1,0 9,0 a4.5,4.5 0 1,0 -9,0",
    "M-4,-4 h8 v8 h-8 z",
    "M0,-5.5 L5.5,0 L0,5.5 L-5.5,0 z",
    "M0,-5 L5,4 L-5,4 z",
    "M0,5 L5,-4 L-5,-4 z",
    "M-5,-1.5 h3.5 v-3.5 h3 v3.5 h3.5 v3 h-3.5 v3.5 h-3 v-3.5 h-3.5 z",
)
"""Marks around (0, 0): answerers differ by shape as well as by colour."""
MOST_ANSWERERS = len(SHAPES)
MOST_STRATA = 20
"""Of one property, those with the most questions; a table has them all."""
LABEL_LETTERS = 24

PROPERTY_TITLES = {
    "question_type": "By question type",
    "organ": "By organ",
    "modality": "By modality",
    "phrasing": "By phrasing",
    "language": "By language",
    "training_picture": "By whether training has the picture",
}
KINDS = {
    "open": Headline("open", "strict", "accuracy", "Open"),
    "closed": Headline("closed", "strict", "accuracy", "Closed"),
}


@dataclass(frozen=True)
class Mark:
    """One answerer's accuracy in one stratum. number: which answerer; x, low, high, y: where it is drawn.

    small: so few pictures that the interval is rough. words: the same for those who hear it.
    """

    number: int
    y: float
    x: float
    low: float | None
    high: float | None
    small: bool
    numbers: str
    words: str


@dataclass(frozen=True)
class Stratum:
    """Questions that have something in common. name: cut to its room; whole: not cut."""

    name: str
    whole: str
    n: int
    y: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Heading:
    """A property's name above its strata."""

    text: str
    y: float


@dataclass(frozen=True)
class Forest:
    """A drawing of `width` x `height`. base: where the first answerer's accuracy on all questions stands.

    left_out: strata without a place in it; undrawn: answerers without one.
    """

    height: float
    base: float
    strata: tuple[Stratum, ...]
    headings: tuple[Heading, ...]
    legend: tuple[str, ...]
    left_out: int
    undrawn: tuple[str, ...]
    width: float = WIDTH
    left: float = LEFT
    right: float = RIGHT
    shapes: tuple[str, ...] = field(default=SHAPES, repr=False)

    @property
    def ticks(self) -> list[tuple[int, float]]:
        """Percent, and where it stands."""
        return [(percent, _place(percent)) for percent in range(0, 101, 20)]


def draw_forest(answered: Mapping[str, Mapping[str, Any]]) -> Forest:
    """The drawing for the scores of every answerer of one benchmark."""
    shown = dict(list(answered.items())[:MOST_ANSWERERS])
    first = next(iter(shown.values()))
    y, left_out = TOP, 0
    strata: list[Stratum] = []
    headings: list[Heading] = []
    for heading, rows in _rows(shown):
        y += HEADING
        headings.append(Heading(heading, y - 8))
        most = sorted(rows, key=lambda row: -row[1])[:MOST_STRATA]
        left_out += len(rows) - len(most)
        for row in [one for one in rows if one in most]:
            strata.append(_stratum(row, shown, y))
            y += LINE * len(strata[-1].marks) + GAP
    return Forest(
        height=y + 4,
        base=_place(first["overall"]["strict"]["accuracy"]["value"]),
        strata=tuple(strata),
        headings=tuple(headings),
        legend=tuple(shown),
        left_out=left_out,
        undrawn=tuple(answered)[MOST_ANSWERERS:],
    )


Row = tuple[str, int, Sequence[Mapping[str, Any] | None], Headline]
"""A stratum's name, its questions, every answerer's scores in it, and which of these is drawn."""


def _rows(answered: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, list[Row]]]:
    whole = list(answered.values())
    first = whole[0]
    kinds: list[Row] = [(kind.title, first[name]["n"], whole, kind) for name, kind in KINDS.items() if name in first]
    yield "All", [("All questions", first["overall"]["n"], whole, OVERALL), *(kinds if len(kinds) > 1 else [])]
    for name, strata in first["by"].items():
        yield (
            PROPERTY_TITLES[name],
            [
                (value, block["overall"]["n"], [one["by"].get(name, {}).get(value) for one in whole], OVERALL)
                for value, block in strata.items()
            ],
        )


def _stratum(row: Row, answered: Mapping[str, Any], y: float) -> Stratum:
    name, n, blocks, headline = row
    marks: list[Mark] = []
    for number, (who, block) in enumerate(zip(answered, blocks, strict=True)):
        interval = headline.find(block) if block else None
        if block is None or interval is None:
            continue
        value, low, high = (interval[part] for part in ("value", "low", "high"))
        numbers = f"{value:.1f}" if low is None or high is None else f"{value:.1f} [{low:.1f}, {high:.1f}]"
        marks.append(
            Mark(
                number=number,
                y=y + LINE * (len(marks) + 0.5),
                x=_place(value),
                low=None if low is None else _place(low),
                high=None if high is None else _place(high),
                small=block[headline.group]["small"],
                numbers=numbers,
                words=f"{name}, {who}: {numbers} percent of {n} questions",
            )
        )
    return Stratum(shorten(name, LABEL_LETTERS), name, n, y + LINE / 2, tuple(marks))


def _place(percent: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * percent / 100, 2)
