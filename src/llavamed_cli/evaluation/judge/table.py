"""scores.json's "judge" as plain text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LABEL_WIDTH, CELL_WIDTH = 17, 21
COLUMNS = ("published", "both orders", "wins")
EXPLAINED = "Ratings relative to the first's in percent (published: one order); wins in both."


def judge_lines(judge: Mapping[str, Any], *, strata: bool = False) -> Iterator[str]:
    """What a judge made of one benchmark.

    Args:
        strata: also by type, domain and so on, as LLaVA-Med's table has it.
    """
    yield from _row(f"judge {judge['model']}" if "model" in judge else "judge", COLUMNS)
    for pair in judge["pairs"]:
        yield f"{pair['second']} to {pair['first']}"
        yield from _row("  all", judge_cells(pair))
        for name, groups in pair["by"].items() if strata else ():
            yield f"  by {name.replace('_', ' ')}"
            for value, group in groups.items():
                yield from _row(f"    {value}", judge_cells(group))
    yield EXPLAINED
    yield from judge_notes(judge)


def judge_notes(judge: Mapping[str, Any]) -> list[str]:
    """What qualifies a judge's numbers: its bias to a place, and what it wrote that cannot be read."""
    position, reviews = judge["position"], judge["reviews"]
    notes = []
    if position is None:
        notes.append("One order only: that a judge favours a place cannot be seen or mended.")
    else:
        notes.append(f"The first place wins {judge_cell(position['first_wins'])}% (50 without a bias).")
        notes.append(f"Both orders agree on the better answer for {judge_cell(position['same_winner'])}%.")
    if reviews["unreadable"]:
        notes.append(f"{reviews['unreadable']} of {reviews['n']} reviews cannot be read:")
        notes += [f"  {number}: {reason}" for reason, number in reviews["reasons"].items()]
    return notes


def judge_cells(group: Mapping[str, Any]) -> tuple[str, str, str]:
    """What stands in COLUMNS for all questions of a pair, or for a group of them."""
    published, corrected = group["published"], group["corrected"]
    return (
        judge_cell(published and published["relative"]),
        judge_cell(corrected and corrected["relative"]),
        judge_cell(corrected and corrected["wins"]),
    )


def judge_cell(interval: Mapping[str, float | None] | None) -> str:
    """ "50.2 [45.1, 55.3]"; a dash where there is no number."""
    if interval is None or interval["value"] is None:
        return "-"
    value, low, high = (interval[name] for name in ("value", "low", "high"))
    return f"{value:.1f}" if low is None or high is None else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _row(label: str, cells: tuple[str, ...]) -> Iterator[str]:
    """The cells behind the label, or below it where it is a long one."""
    if len(label) >= LABEL_WIDTH:
        yield label
        label = ""
    yield (label.ljust(LABEL_WIDTH) + "".join(cell.ljust(CELL_WIDTH) for cell in cells)).rstrip()
