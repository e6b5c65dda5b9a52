"""The two numbers on a review's first line: as asked for, or as LLaVA-Med v1.5's summary reads them."""

from __future__ import annotations

import re

from llavamed_cli.evaluation.judge.prompt import HIGHEST, LOWEST

Verdict = tuple[float, float]
"""The rating of the answer in the first place, and of that in the second."""

_VERDICT = re.compile(r"([0-9]{1,2}(?:\.[0-9]+)?)(?:[ \t]+|[ \t]*,[ \t]*)([0-9]{1,2}(?:\.[0-9]+)?)")
_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)


def read_verdict(review: str, *, cut: bool = False) -> Verdict | None:
    """The ratings, if the first line with anything on it is two numbers on the scale and nothing else.

    A blank, several, a tab or a comma may part them: there is one way to understand that. What a model thought aloud
    in <think> tags before it began is no part of its review.

    Args:
        cut: the review breaks off at its most tokens, so that its last line may not be whole.
    """
    text = _THOUGHTS.sub("", review, count=1) if review.lstrip().startswith("<think>") else review
    line, end, _ = text.strip().partition("\n")
    found = _VERDICT.fullmatch(line.strip())
    if found is None or (cut and not end):
        return None
    ratings = float(found[1]), float(found[2])
    return ratings if all(LOWEST <= rating <= HIGHEST for rating in ratings) else None


def read_published(review: str) -> Verdict | None:
    """The ratings as LLaVA-Med v1.5's summariser takes them: the first line, parted at each blank, gives two floats.

    So "nan 5" and "-1 -1" are ratings, and "8  9" is none. None where the summariser ends in an exception: also where
    the first rating is 0, for its score divides by that.
    """
    parts = review.split("\n")[0].split(" ")
    try:
        first, second = (float(part) for part in parts)
    except ValueError:
        return None
    return None if first == 0 else (first, second)
