"""The parts of sentence BLEU against one reference (Papineni et al. 2002), equal to nltk's without smoothing.

nltk counts the precision of an n-gram order that has no match as the smallest float, so that scores such as 1e-229
appear in place of 0; `LEAST` is that float. nltk itself is only needed by the tests.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterable, Sequence

LEAST = sys.float_info.min

Words = Sequence[str]


def ngram_precisions(reference: Words, prediction: Words, orders: int) -> list[float]:
    """For 1-grams and up: the share of the prediction's that the reference has, each at most as often as there."""
    precisions = [0.0] * orders
    for size in range(1, min(orders, len(reference), len(prediction)) + 1):
        shared = shared_count(_ngrams(prediction, size), _ngrams(reference, size))
        if not shared:  # then no longer one is shared either
            break
        precisions[size - 1] = shared / (len(prediction) - size + 1)
    return precisions


def geometric_mean(precisions: Sequence[float], least: float) -> float:
    """Their geometric mean. least: what a precision of 0 counts as; with 0, the mean is 0."""
    counted = [precision or least for precision in precisions]
    return math.exp(math.fsum(map(math.log, counted)) / len(counted)) if all(counted) else 0.0


def brevity_penalty(reference: Words, prediction: Words) -> float:
    """What BLEU is multiplied with, because a short prediction is easily precise. The prediction is not empty."""
    return 1.0 if len(prediction) > len(reference) else math.exp(1 - len(reference) / len(prediction))


def shared_count(prediction: Iterable[Hashable], reference: Iterable[Hashable]) -> int:
    """How many of the prediction's items the reference has, each at most as often as there."""
    left: dict[Hashable, int] = {}
    for item in reference:
        left[item] = left.get(item, 0) + 1
    shared = 0
    for item in prediction:
        if left.get(item):
            left[item] -= 1
            shared += 1
    return shared


def _ngrams(words: Words, size: int) -> Iterable[Hashable]:
    return words if size == 1 else zip(*(words[start:] for start in range(size)), strict=False)
