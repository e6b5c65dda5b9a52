"""Scores of reviews, against a judge whose ratings and whose bias are known beforehand."""

from __future__ import annotations

import random
import statistics
from typing import Any

import pytest

from llavamed_cli.evaluation.judge.relative import summarise_reviews
from llavamed_cli.evaluation.judge.review import Review


def review(number: int, ours: float, theirs: float, *, swapped: bool = False, **other: Any) -> Review:
    """The judge rates the first and the second one's answer so, whichever stands where."""
    shown = (theirs, ours) if swapped else (ours, theirs)
    fields: dict[str, Any] = {
        "question_id": str(number),
        "benchmark": "chat",
        "picture": f"{number // 2}.jpg",
        "first": "reference answer",
        "second": "tuned",
        "text": f"{shown[0]:g} {shown[1]:g}\nWhy.",
        "strata": {"question_type": (("conversation", "detailed_description")[number % 2],)},
    }
    return Review(swapped=swapped, **{**fields, **other})


def both_orders(number: int, first: float, second: float, bonus: float = 0.0) -> list[Review]:
    return [review(number, first + bonus, second), review(number, first, second + bonus, swapped=True)]


def test_a_judge_that_favours_a_place_is_evened_out_and_found_out() -> None:
    generator = random.Random(0)
    truth = [(generator.randint(2, 8), generator.randint(2, 8)) for _ in range(60)]
    fair = summarise_reviews([r for n, pair in enumerate(truth) for r in both_orders(n, *pair)], seed=0)
    biased = summarise_reviews([r for n, pair in enumerate(truth) for r in both_orders(n, *pair, bonus=1)], seed=0)
    (even,), (odd,) = fair["pairs"], biased["pairs"]

    assert fair["position"]["first_wins"]["value"] == 50
    assert biased["position"]["first_wins"]["low"] > 50
    assert fair["position"]["same_winner"]["value"] == 100 > biased["position"]["same_winner"]["value"]

    assert even["published"]["relative"]["value"] == even["corrected"]["relative"]["value"]
    assert even["published"]["relative"]["value"] == pytest.approx(statistics.mean(100 * b / a for a, b in truth))
    evened = statistics.mean(100 * (b + 0.5) / (a + 0.5) for a, b in truth)
    assert odd["corrected"]["relative"]["value"] == pytest.approx(evened)
    assert odd["published"]["relative"]["value"] == pytest.approx(statistics.mean(100 * b / (a + 1) for a, b in truth))

    for pair in (even, odd):
        assert pair["corrected"]["difference"]["value"] == pytest.approx(statistics.mean(b - a for a, b in truth))
        wins = statistics.mean(100 * (b > a) + 50 * (a == b) for a, b in truth)
        assert pair["corrected"]["wins"]["value"] == pytest.approx(wins)
        assert pair["corrected"]["relative"]["low"] < pair["corrected"]["relative"]["value"]
        assert pair["pictures"] == 30 and not pair["small"]


def test_the_interval_is_scipys_over_pictures() -> None:
    """One question a picture: the same percentile bootstrap as an independent one, to the noise of its draws."""
    stats = pytest.importorskip("scipy.stats")
    import numpy as np

    generator = np.random.default_rng(1)
    truth = generator.integers(2, 10, size=(80, 2)).astype(float)
    reviews = [r for n, (a, b) in enumerate(truth) for r in both_orders(2 * n, a, b)]
    (pair,) = summarise_reviews(reviews, seed=0)["pairs"]
    ratios = 100 * truth[:, 1] / truth[:, 0]
    theirs = stats.bootstrap((ratios,), np.mean, method="percentile", n_resamples=10_000, random_state=5)
    ours = pair["corrected"]["relative"]
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours["low"] == pytest.approx(theirs.confidence_interval.low, abs=0.04 * width)
    assert ours["high"] == pytest.approx(theirs.confidence_interval.high, abs=0.04 * width)


def test_questions_of_one_picture_are_resampled_together() -> None:
    alike = [review(number, 5, 2 + number // 20, picture=f"{number // 10}.jpg") for number in range(100)]
    apart = [review(number, 5, 2 + number // 20, picture=f"{number}.jpg") for number in range(100)]
    widths = []
    for reviews in (alike, apart):
        relative = summarise_reviews(reviews, seed=0)["pairs"][0]["published"]["relative"]
        widths.append(relative["high"] - relative["low"])
    assert widths[0] > 2 * widths[1]


def test_what_cannot_be_read_is_left_out_and_counted() -> None:
    reviews = [
        *both_orders(0, 8, 4),
        *both_orders(2, 8, 8),
        review(4, 8, 4),
        review(4, 8, 4, swapped=True, text="I like both.", retried=True),
        review(6, 8, 4, text=None, fault="the model refused"),
        review(6, 8, 4, swapped=True),
    ]
    judged = summarise_reviews(reviews, seed=0)
    (pair,) = judged["pairs"]
    reasons = {"the first line is not two numbers from 1 to 10": 1, "the model refused": 1}
    assert judged["reviews"] == {"n": 8, "retried": 1, "unreadable": 2, "reasons": reasons}
    assert pair["published"]["n"] == 3 and pair["corrected"]["n"] == 2 and judged["questions"] == 4
    assert pair["published"]["relative"]["value"] == pytest.approx(100 * (0.5 + 1 + 0.5) / 3)
    assert pair["corrected"]["relative"]["value"] == 75
    assert pair["position"]["ties"] == 2 and pair["position"]["first"] == pair["position"]["second"] == 1


def test_one_order_alone_says_nothing_about_places() -> None:
    judged = summarise_reviews([review(number, 8, 4) for number in range(4)], seed=0)
    (pair,) = judged["pairs"]
    assert judged["position"] is pair["position"] is pair["corrected"] is None
    assert pair["published"]["relative"]["value"] == 50


def test_of_one_picture_there_is_no_interval() -> None:
    (pair,) = summarise_reviews(both_orders(0, 8, 4), seed=0)["pairs"]
    assert pair["corrected"]["relative"] == {"value": 50, "low": None, "high": None}


def test_nothing_that_can_be_read_gives_no_scores() -> None:
    judged = summarise_reviews([review(0, 8, 4, text="No."), review(0, 8, 4, swapped=True, text="No.")], seed=0)
    (pair,) = judged["pairs"]
    assert pair["published"] is pair["corrected"] is None and judged["reviews"]["unreadable"] == 2


def test_pairs_and_strata_are_kept_apart() -> None:
    reviews = [
        *(r for n in range(4) for r in both_orders(n, 8, 4 + 4 * (n % 2))),
        *(review(n, 8, 2, second="blind", swapped=swapped) for n in range(4) for swapped in (False, True)),
    ]
    tuned, blind = summarise_reviews(reviews, seed=0)["pairs"]
    assert (tuned["second"], blind["second"]) == ("tuned", "blind")
    kinds = tuned["by"]["question_type"]
    assert kinds["conversation"]["corrected"]["relative"]["value"] == 50
    assert kinds["detailed_description"]["corrected"]["relative"]["value"] == 100
    assert blind["corrected"]["wins"]["value"] == 0 and blind["corrected"]["wins"]["high"] > 0
