from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.evaluation.judge.verdict import read_published, read_verdict


@pytest.mark.parametrize(
    ("review", "ratings"),
    [
        ("8 9\nwhy", (8, 9)),
        ("7.5 10", (7.5, 10)),
        ("8, 9\nwhy", (8, 9)),
        ("8,9\nwhy", (8, 9)),
        ("8\t9\r\nwhy", (8, 9)),
        ("\n  8   9 \nwhy", (8, 9)),
        ("<think>\nIs it 3 4?\n</think>\n\n8 9\nwhy", (8, 9)),
    ],
)
def test_what_can_be_understood_in_one_way_is_read(review: str, ratings: tuple[float, float]) -> None:
    assert read_verdict(review) == ratings


@pytest.mark.parametrize(
    "first_line",
    [
        "",
        "8",
        "8 9 7",
        "8/10 9/10",
        "80% 90%",
        "Assistant 1: 8",
        "0 9",
        "8 11",
        "-1 -1",
        "nan 5",
        "inf 5",
        "1e1 5",
        "1_0 5",
        "８ ９",
        "8;9",
        "8 and 9",
        "Ratings: 8 9",
        "**8 9**",
        "8 9 because",
        "10.5 3",
        "010 5",
        "<think> 8 9",
    ],
)
def test_what_is_not_two_numbers_on_the_scale_is_not_read(first_line: str) -> None:
    assert read_verdict(f"{first_line}\nwhy, when 8 9 was meant") is None


def test_of_a_review_that_was_cut_the_last_line_is_not_trusted() -> None:
    assert read_verdict("7 1", cut=True) is None, "it may have become 10"
    assert read_verdict("7 1\nBec", cut=True) == (7, 1)


def test_the_published_reading_is_the_summarisers(shared: Path) -> None:
    """Of first lines on which LLaVA-Med v1.5's summariser ended in an exception, and of those on which it did not."""
    results: dict[str, Any] = json.loads((shared / "oracle" / "judge" / "v15_summary.json").read_text())["results"]
    bad = {name: made for name, made in results.items() if "bad_first_line" in made}
    assert len(bad) > 15
    for name, made in bad.items():
        assert (read_published(made["bad_first_line"] + "\nwhy") is None) == ("error" in made), name


def test_where_both_read_a_review_they_read_the_same(shared: Path) -> None:
    parsed = json.loads((shared / "oracle" / "judge" / "v10_summary.json").read_text())["parse_score"]
    both = 0
    for one in parsed:
        strict, theirs = read_verdict(one["review"]), tuple(one["result"])
        if strict is not None and theirs != (-1, -1):
            assert strict == theirs
            both += 1
    assert both >= 6


ratings = st.floats(1, 10).map(lambda number: round(number, 1))


@given(ratings, ratings, st.text())
def test_what_is_asked_for_is_read_by_both_whatever_follows(first: float, second: float, reasons: str) -> None:
    review = f"{first} {second}\n{reasons}"
    assert read_verdict(review) == read_published(review) == (first, second)


@given(st.text(alphabet="0123456789 .,-\t\n/e_x"))
def test_a_verdict_is_on_the_scale(review: str) -> None:
    found = read_verdict(review)
    assert found is None or all(1 <= rating <= 10 and math.isfinite(rating) for rating in found)
