"""scores.json as plain text for a terminal of 80 columns: who answered how well, and by how much better than whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from llavamed_cli.evaluation.headlines import REFERENCE, STRICT

LABEL_WIDTH = 17
CELL_WIDTH = 21
MINUS = " minus"
INTERVAL_NOTE = "Percent, with 95% intervals (bootstrap over pictures)."


def score_table(scores: Mapping[str, Any]) -> str:
    """The headline numbers of every benchmark; no line is longer than 80 characters."""
    return "\n".join(line for title, read in scores["benchmarks"].items() for line in _benchmark(title, read)).rstrip()


def _benchmark(title: str, read: Mapping[str, Any]) -> Iterator[str]:
    counts = f"{read['n']} questions ({read['open']} open, {read['closed']} closed), {read['pictures']} pictures"
    yield f"{title}: {counts}"
    yield INTERVAL_NOTE
    for name, headlines in (("reference", REFERENCE), ("strict", STRICT)):
        yield ""
        yield _row(name, [headline.title for headline in headlines])
        for who, answered in read["answerers"].items():
            yield _row(who, [_cell(headline.find(answered)) for headline in headlines])
    for first, pairs in groupby(read["differences"], key=lambda pair: pair["first"]):
        yield ""
        yield _row(f"{shorten(first, LABEL_WIDTH - 1 - len(MINUS))}{MINUS}", [headline.title for headline in STRICT])
        for pair in pairs:
            yield _row(f"  {pair['second']}", [_cell(headline.find(pair), signed=True) for headline in STRICT])
    yield ""


def _row(label: str, cells: Sequence[str]) -> str:
    return (shorten(label, LABEL_WIDTH - 1).ljust(LABEL_WIDTH) + "".join(c.ljust(CELL_WIDTH) for c in cells)).rstrip()


def _cell(interval: Mapping[str, float | None] | None, *, signed: bool = False) -> str:
    """ "61.5 [54.2, 68.6]", at most 20 characters."""
    if interval is None:
        return "-"
    form = "+.1f" if signed else ".1f"
    value = format(interval["value"], form)
    if interval["low"] is None or interval["high"] is None:
        return value
    return f"{value} [{format(interval['low'], form)}, {format(interval['high'], form)}]"


def shorten(text: str, width: int) -> str:
    """The text, its middle left out where it is longer than `width`."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]
