"""Sentence BLEU against one reference, as nltk's `sentence_bleu` computes it without smoothing.

Papineni et al. 2002, with nltk's treatment of an n-gram order that has no match: its precision counts as the smallest
float instead of zero, so that scores such as 1e-229 appear in place of 0. nltk itself is only needed by the tests.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence


def sentence_bleu(reference: Sequence[str], prediction: Sequence[str], weights: Sequence[float]) -> float:
    """BLEU from 0 to 1 of two word lists; weights are those of 1-grams, 2-grams and so on."""
    precisions = [_precision(reference, prediction, size) for size in range(1, len(weights) + 1)]
    if precisions[0] == 0:
        return 0.0
    logs = (weight * math.log(value or sys.float_info.min) for weight, value in zip(weights, precisions, strict=True))
    return _brevity_penalty(len(reference), len(prediction)) * math.exp(math.fsum(logs))


def _precision(reference: Sequence[str], prediction: Sequence[str], size: int) -> float:
    """The share of the prediction's n-grams that the reference has, each at most as often as there."""
    found, known = _ngrams(prediction, size), _ngrams(reference, size)
    return sum((found & known).values()) / max(1, sum(found.values()))


def _ngrams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def _brevity_penalty(reference_length: int, prediction_length: int) -> float:
    return 1.0 if prediction_length > reference_length else math.exp(1 - reference_length / prediction_length)
