"""The parts of BLEU, put together, against nltk's on any short sentences."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.evaluation.scoring.bleu import LEAST, brevity_penalty, geometric_mean, ngram_precisions

bleu_score = pytest.importorskip("nltk.translate.bleu_score")
sentences = st.lists(st.sampled_from("abcde"), max_size=8)


@given(reference=sentences, prediction=sentences, orders=st.integers(1, 4))
def test_equals_nltk(reference: list[str], prediction: list[str], orders: int) -> None:
    def theirs(weights: tuple[float, ...]) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(bleu_score.sentence_bleu([reference], prediction, weights=weights))

    precisions = ngram_precisions(reference, prediction, orders)
    penalty = brevity_penalty(reference, prediction) if precisions[0] else 0.0
    cumulative = penalty * geometric_mean(precisions, LEAST)
    alone = penalty * (precisions[-1] or LEAST)
    assert cumulative == pytest.approx(theirs((1 / orders,) * orders), rel=1e-12, abs=1e-300)
    assert alone == pytest.approx(theirs((0.0,) * (orders - 1) + (1.0,)), rel=1e-12, abs=1e-300)


def test_an_order_without_a_match_can_be_a_zero() -> None:
    assert geometric_mean([0.5, 0.0], 0) == 0
    assert geometric_mean([0.5, 0.0], LEAST) > 0
