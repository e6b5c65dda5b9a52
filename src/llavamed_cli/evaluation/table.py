"""scores.json as plain text for a terminal of 80 columns: who answered how well, and by how much better than whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from llavamed_cli.evaluation.headlines import DETECTION, OVERALL, REFERENCE, STRICT, Headline
from llavamed_cli.evaluation.judge.table import judge_lines

LABEL_WIDTH = 17
CELL_WIDTH = 21
MINUS = " minus"
INTERVAL_NOTE = "Percent, with 95% intervals (bootstrap over pictures)."
LEAST_P = 0.001


def score_table(scores: Mapping[str, Any]) -> str:
    """The headline numbers of every benchmark; no line is longer than 80 characters."""
    return "\n".join(line for title, read in scores["benchmarks"].items() for line in _benchmark(title, read)).rstrip()


def _benchmark(title: str, read: Mapping[str, Any]) -> Iterator[str]:
    yield f"{title}: {counts(read)}"
    yield INTERVAL_NOTE
    for name, headlines in (("reference", REFERENCE), ("strict", STRICT), *_detection(read)):
        yield ""
        yield _row(name, [headline.title for headline in headlines])
        for who, answered in read["answerers"].items():
            yield _row(who, [cell(headline.find(answered)) for headline in headlines])
    for first, pairs in groupby(read["differences"], key=lambda pair: pair["first"]):
        yield ""
        yield _row(f"{shorten(first, LABEL_WIDTH - 1 - len(MINUS))}{MINUS}", [headline.title for headline in STRICT])
        for pair in pairs:
            found = [headline.find(pair) for headline in STRICT]
            yield _row(f"  {pair['second']}", [cell(interval, signed=True) for interval in found])
            yield _row("", [p_value(interval) for interval in found])
    if "judge" in read:
        yield ""
        yield from judge_lines(read["judge"])
    yield ""
    yield from notes(read)
    yield ""


def _detection(read: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Headline]]]:
    """Sensitivities and specificities that anyone has, as many beside one another as fit."""
    known = present(DETECTION, read)
    for kind in dict.fromkeys(headline.score_set for headline in known):
        yield "strict", [headline for headline in known if headline.score_set == kind]


def present(headlines: Sequence[Headline], read: Mapping[str, Any]) -> list[Headline]:
    """Those that some answerer of a benchmark has."""
    return [one for one in headlines if any(one.find(answered) for answered in read["answerers"].values())]


def counts(read: Mapping[str, Any]) -> str:
    """How large a benchmark is."""
    return f"{read['n']} questions ({read['open']} open, {read['closed']} closed), {read['pictures']} pictures"


def notes(read: Mapping[str, Any]) -> list[str]:
    """What qualifies a benchmark's numbers: answers that are absent, few pictures, many comparisons."""
    said = []
    for who, answered in read["answerers"].items():
        if answered["absent"]:
            said.append(f"{shorten(who, 30)}: {answered['absent']} question(s) without an answer count as wrong.")
    if any(OVERALL.group in answered and answered[OVERALL.group]["small"] for answered in read["answerers"].values()):
        said.append("Fewer than 30 pictures: these intervals are rough.")
    if len(read["differences"]) > 1:
        said.append(f"{len(read['differences'])} pairs compared; p is not corrected for their number.")
    return said


def cell(interval: Mapping[str, float | None] | None, *, signed: bool = False) -> str:
    """ "61.5 [54.2, 68.6]", at most 20 characters."""
    if interval is None:
        return "-"
    form = "+.1f" if signed else ".1f"
    value = format(interval["value"], form)
    if interval["low"] is None or interval["high"] is None:
        return value
    return f"{value} [{format(interval['low'], form)}, {format(interval['high'], form)}]"


def p_value(interval: Mapping[str, float | None] | None) -> str:
    """ "p = 0.012"; nothing where a difference was not tested."""
    p = None if interval is None else interval.get("p")
    if p is None:
        return ""
    return f"p < {LEAST_P}" if p < LEAST_P else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"


def _row(label: str, cells: Sequence[str]) -> str:
    return (shorten(label, LABEL_WIDTH - 1).ljust(LABEL_WIDTH) + "".join(c.ljust(CELL_WIDTH) for c in cells)).rstrip()


def shorten(text: str, width: int) -> str:
    """The text, its middle left out where it is longer than `width`."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]
