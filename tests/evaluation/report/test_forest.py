"""The forest plot's geometry: the scale, the order, and what is said of every mark."""

from __future__ import annotations

from typing import Any

import pytest

from llavamed_cli.evaluation.report.forest import LEFT, MOST_ANSWERERS, MOST_STRATA, RIGHT, draw_forest


def block(value: float, low: float | None, high: float | None, n: int = 40, small: bool = False) -> dict[str, Any]:
    interval = {"value": value, "low": low, "high": high}
    return {"n": n, "pictures": n, "small": small, "strict": {"accuracy": interval}}


def scores(value: float = 50.0, strata: int = 2) -> dict[str, Any]:
    whole = {"overall": block(value, value - 10, value + 10, n=100)}
    kinds = {"open": block(20, 10, 30, 60), "closed": block(90, 80, 100, 40)}
    by = {f"T{n}": {"overall": block(float(n), None, None, n + 1, small=True)} for n in range(strata)}
    return {**whole, **kinds, "by": {"question_type": by}}


def test_percent_lie_on_one_scale() -> None:
    plot = draw_forest({"one": scores(25.0)})
    assert plot.ticks[0] == (0, LEFT) and plot.ticks[-1] == (100, RIGHT)
    mark = plot.strata[0].marks[0]
    assert mark.x == plot.base == pytest.approx(LEFT + (RIGHT - LEFT) / 4)
    assert mark.low is not None and mark.high is not None
    assert mark.x - mark.low == pytest.approx(mark.high - mark.x)
    assert mark.words == "All questions, one: 25.0 [15.0, 35.0] percent of 100 questions"


def test_everyone_has_a_line_in_every_stratum_and_none_overlap() -> None:
    plot = draw_forest({name: scores() for name in ("one", "two", "three")})
    lines = [mark.y for stratum in plot.strata for mark in stratum.marks]
    assert len(lines) == 3 * 5 == len(set(lines))
    assert lines == sorted(lines) and lines[-1] < plot.height
    assert [stratum.name for stratum in plot.strata] == ["All questions", "Open", "Closed", "T0", "T1"]
    assert [heading.text for heading in plot.headings] == ["All", "By question type"]


def test_a_stratum_without_interval_has_a_mark_alone() -> None:
    (mark,) = draw_forest({"one": scores()}).strata[-1].marks
    assert (mark.low, mark.high, mark.small, mark.numbers) == (None, None, True, "1.0")


def test_an_answerer_without_a_stratum_has_no_mark_there() -> None:
    lacking = {**scores(), "by": {}}
    plot = draw_forest({"one": scores(), "two": lacking})
    assert [mark.number for mark in plot.strata[-1].marks] == [0]


def test_many_strata_are_cut_to_the_largest_and_counted() -> None:
    plot = draw_forest({f"a{n}": scores(strata=MOST_STRATA + 5) for n in range(MOST_ANSWERERS + 1)})
    names = [stratum.name for stratum in plot.strata[3:]]
    assert names == [f"T{n}" for n in range(5, MOST_STRATA + 5)] and plot.left_out == 5
    assert len(plot.legend) == MOST_ANSWERERS
    assert plot.undrawn == (f"a{MOST_ANSWERERS}",)
