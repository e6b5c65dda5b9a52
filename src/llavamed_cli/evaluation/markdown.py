"""scores.json as Markdown tables for a paper: both score sets with their intervals, and the differences with p."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llavamed_cli.evaluation.headlines import DETECTION, OVERALL, REFERENCE, STRICT
from llavamed_cli.evaluation.judge.table import COLUMNS as JUDGED
from llavamed_cli.evaluation.judge.table import EXPLAINED as JUDGE_EXPLAINED
from llavamed_cli.evaluation.judge.table import judge_cells, judge_notes
from llavamed_cli.evaluation.table import cell, counts, notes, p_value, present

CAPTION = (
    "Percent with 95% intervals, by a bootstrap over pictures (10,000 draws). Reference: LLaVA-Med v1.0's formulae: "
    "open recall rewards long answers, and a closed answer is right where it holds the true one, be it inside a word. "
    "Strict: whole words, each counted once. p: permutation by picture, two-sided."
)
MARKS = "\\`*_|<>[]"


def markdown_tables(scores: Mapping[str, Any]) -> str:
    """A table of scores for every benchmark, and one of differences where there are several answerers."""
    blocks = ["\n".join(_benchmark(title, read)) for title, read in scores["benchmarks"].items()]
    return "\n\n".join([*blocks, CAPTION])


def _benchmark(title: str, read: Mapping[str, Any]) -> Iterator[str]:
    yield f"**{_plain(title)}**: {counts(read)}"
    yield ""
    columns = [
        *((f"reference, {headline.title}", headline) for headline in present(REFERENCE, read)),
        *((f"strict, {headline.title}", headline) for headline in present((*STRICT, OVERALL, *DETECTION), read)),
    ]
    yield from _head(["", *(name for name, _ in columns)])
    for who, answered in read["answerers"].items():
        yield _line([_plain(who), *(cell(headline.find(answered)) for _, headline in columns)])
    strict = present((*STRICT, OVERALL), read)
    if read["differences"]:
        yield ""
        yield from _head(["difference", *(f"strict, {headline.title}" for headline in strict)])
    for pair in read["differences"]:
        found = [headline.find(pair) for headline in strict]
        cells = [" ".join((cell(one, signed=True), p_value(one))).strip() for one in found]
        yield _line([f"{_plain(pair['first'])} − {_plain(pair['second'])}", *cells])
    if "judge" in read:
        yield from _judged(read["judge"])
    for note in notes(read):
        yield ""
        yield _plain(note)


def _judged(judge: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield from _head([f"judge {_plain(judge['model'])}", "n", *JUDGED])
    for pair in judge["pairs"]:
        yield _line([f"{_plain(pair['second'])} / {_plain(pair['first'])}", str(pair["n"]), *judge_cells(pair)])
    for note in (JUDGE_EXPLAINED, *judge_notes(judge)):
        yield ""
        yield _plain(note)


def _head(names: Sequence[str]) -> Iterator[str]:
    yield _line(names)
    yield _line(["---", *("---:" for _ in names[1:])])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in MARKS else letter for letter in " ".join(text.split()))
