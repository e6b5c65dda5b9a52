"""From reviews to scores.json's "judge" of a benchmark: as published, and with the order of the answers made even.

    judge = {
      "model", "server", "temperature"     of the judge; absent of a file of reviews
      "prompt": {"instruction", "reminder"}   verbatim; absent of a file of reviews
      "questions": open questions judged
      "reviews": {"n", "retried", "unreadable", "reasons": {reason: how many}}
      "position": POSITION, over all pairs     null where there is one order only
      "pairs": [{"first", "second", "position": POSITION, **GROUP,
                 "by": {"question_type": {"conversation": GROUP}, "modality": ..., ...}}]
    }
    POSITION = {"n", "pictures", "small", "first", "second", "ties",   reviews that rate which place higher
                "first_wins": INTERVAL, "same_winner": INTERVAL}
    GROUP = {"n", "pictures", "small",        questions with at least one readable review
             "published": {"n", "pictures", "small", "ratio_of_means", "first_score", "second_score",
                           "relative": INTERVAL},   null without a question that has it
             "corrected": the same, "wins": INTERVAL, "difference": INTERVAL with "p"}
    INTERVAL = {"value", "low", "high"}; relative, wins and shares in percent, scores and difference in points of 10

first is who the second one is measured against: "reference answer", or an answerer.
published: the first one's answer in the first place; relative is the mean over questions of 100 * second / first, as in
LLaVA-Med v1.5 and the paper; ratio_of_means is v1.0's, of means with three digits. What no formula can use is null.
corrected: only questions whose both orders are readable; each answer's rating is the mean of its two, and relative is
computed of those. wins: how often the second one's is the higher, a tie being half. difference: second - first.
first_wins: how often the answer in the first place is rated higher, a tie being half; 50 without a bias.
same_winner: how often both orders agree on who is better, or that nobody is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llavamed_cli.evaluation.judge.review import FAILED, Review, by_pair, finite
from llavamed_cli.evaluation.judge.verdict import Verdict
from llavamed_cli.evaluation.scores import SMALL
from llavamed_cli.evaluation.scoring.intervals import Interval, mean_intervals, paired_differences

ALWAYS_SHOWN = ("question_type", "modality")
"""Properties that the published table has even where all questions are alike in them."""
DIGITS_KEPT = 9
PERCENT = 100.0


@dataclass(frozen=True)
class _Judged:
    """A question of one pair. published: (first, second) in the published order; even: in both orders; as readable."""

    review: Review
    published: Verdict | None
    even: tuple[Verdict, Verdict] | None


def summarise_reviews(reviews: Sequence[Review], seed: int) -> dict[str, Any]:
    """The scores of one benchmark's reviews, as the module's docstring lays them out."""
    pairs = {names: _questions(own) for names, own in by_pair(reviews).items()}
    reasons = Counter(why for review in reviews if (why := review.why_unreadable) is not None)
    return {
        "questions": len({review.question_id for review in reviews}),
        "reviews": {
            "n": len(reviews),
            "retried": sum(review.retried for review in reviews),
            "unreadable": reasons.total(),
            "reasons": dict(reasons.most_common()),
        },
        "position": _position([one for judged in pairs.values() for one in judged], seed),
        "pairs": [
            {
                "first": first,
                "second": second,
                "position": _position(judged, seed),
                **_group(judged, seed),
                "by": _strata(judged, seed),
            }
            for (first, second), judged in pairs.items()
        ],
    }


def _questions(reviews: Sequence[Review]) -> list[_Judged]:
    """One a question, in the order in which they first come."""
    orders: dict[str, dict[bool, Review]] = {}
    for review in reviews:
        orders.setdefault(review.question_id, {})[review.swapped] = review
    judged = []
    for own in orders.values():
        straight, swapped = own.get(False), own.get(True)
        verdicts = [review.verdict for review in (straight, swapped) if review is not None]
        both = [verdict for verdict in verdicts if verdict is not None]
        judged.append(
            _Judged(
                review=next(iter(own.values())),
                published=straight.published if straight else None,
                even=(both[0], both[1]) if len(both) == 2 else None,
            )
        )
    return judged


def _group(judged: Sequence[_Judged], seed: int) -> dict[str, Any]:
    read = [one for one in judged if one.published or one.even]
    return {
        **_size(len(read), len({one.review.cluster for one in read})),
        "published": _published([one for one in judged if one.published], seed),
        "corrected": _corrected([one for one in judged if one.even], seed),
    }


def _published(judged: Sequence[_Judged], seed: int) -> dict[str, Any] | None:
    """What v1.0 stored as unreadable is in its means, as its summary has it, and in no ratio."""
    if not judged:
        return None
    ratings = [one.published for one in judged if one.published]
    pictures = [one.review.cluster for one in judged]
    read = [place for place, one in enumerate(judged) if one.review.stored != FAILED]
    return {
        **_means(ratings, pictures),
        "relative": _relative([ratings[place] for place in read], [pictures[place] for place in read], seed),
    }


def _corrected(judged: Sequence[_Judged], seed: int) -> dict[str, Any] | None:
    ratings = [_evened(one.even) for one in judged if one.even]
    if not ratings:
        return None
    pictures = [one.review.cluster for one in judged]
    firsts, seconds = zip(*ratings, strict=True)
    wins = {"wins": [_share(second, first) for first, second in ratings]}
    difference = paired_differences({"points": seconds}, {"points": firsts}, pictures, seed=seed)["points"]
    return {
        **_means(ratings, pictures),
        "relative": _relative(ratings, pictures, seed),
        "wins": _plain(mean_intervals(wins, pictures, seed=seed, top=PERCENT)["wins"]),
        "difference": {**_plain(difference), "p": difference.p},
    }


def _relative(ratings: Sequence[Verdict], pictures: Sequence[str], seed: int) -> dict[str, float | None]:
    """The mean of ratios in percent with its interval; null where there is none, or one is no finite number."""
    ratios = [PERCENT * second / first for first, second in ratings]
    if not ratios or not all(map(math.isfinite, ratios)):
        return {"value": None, "low": None, "high": None}
    return _plain(mean_intervals({"ratio": ratios}, pictures, seed=seed)["ratio"])


def _means(ratings: Sequence[Verdict], pictures: Sequence[str]) -> dict[str, Any]:
    firsts, seconds = zip(*ratings, strict=True)
    means = sum(firsts) / len(firsts), sum(seconds) / len(seconds)
    return {
        **_size(len(ratings), len(set(pictures))),
        "ratio_of_means": _ratio_of_means(*means) if finite(means) else None,
        "first_score": _kept(means[0]),
        "second_score": _kept(means[1]),
    }


def _ratio_of_means(first: float, second: float) -> float | None:
    """As v1.0's summary prints it, which rounds the means first."""
    first, second = round(first, 3), round(second, 3)
    return round(second / first * PERCENT, 1) if first else None


def _position(judged: Sequence[_Judged], seed: int) -> dict[str, Any] | None:
    """How often each place wins, over questions with both orders; with one, place and answerer cannot be told apart."""
    both = [(one.review.cluster, one.even) for one in judged if one.even]
    if not both:
        return None
    pictures = [picture for picture, _ in both]
    shares = [(_share(*straight), _share(*swapped[::-1])) for _, (straight, swapped) in both]
    counts = Counter(share for pair in shares for share in pair)
    columns = {
        "first_wins": [sum(pair) / 2 for pair in shares],
        "same_winner": [PERCENT * (in_first == PERCENT - in_second) for in_first, in_second in shares],
    }
    intervals = mean_intervals(columns, pictures, seed=seed, top=PERCENT)
    return {
        **_size(len(both), len(set(pictures))),
        "first": counts[PERCENT],
        "second": counts[0.0],
        "ties": counts[PERCENT / 2],
        **{name: _plain(interval) for name, interval in intervals.items()},
    }


def _evened(even: tuple[Verdict, Verdict] | None) -> Verdict:
    """The mean of both orders, of ratings that stand as (first, second) already."""
    assert even is not None
    straight, swapped = even
    return (straight[0] + swapped[0]) / 2, (straight[1] + swapped[1]) / 2


def _share(ours: float, theirs: float) -> float:
    """100 where `ours` is the higher, 50 for a tie."""
    return PERCENT * ((ours > theirs) + (ours == theirs) / 2)


def _strata(judged: Sequence[_Judged], seed: int) -> dict[str, dict[str, Any]]:
    """The groups of every property in which the questions differ; a question may be in several."""
    found: dict[str, dict[str, list[_Judged]]] = {}
    for one in judged:
        for name, values in one.review.strata.items():
            for value in values:
                found.setdefault(name, {}).setdefault(value, []).append(one)
    return {
        name: {value: _group(groups[value], seed) for value in sorted(groups)}
        for name, groups in found.items()
        if len(groups) > 1 or name in ALWAYS_SHOWN
    }


def _size(n: int, pictures: int) -> dict[str, Any]:
    return {"n": n, "pictures": pictures, "small": pictures < SMALL}


def _plain(interval: Interval) -> dict[str, float | None]:
    return {"value": _kept(interval.value), "low": _kept(interval.low), "high": _kept(interval.high)}


def _kept(value: float | None) -> float | None:
    """The number, null where JSON has none for it."""
    return round(value, DIGITS_KEPT) if value is not None and math.isfinite(value) else None
