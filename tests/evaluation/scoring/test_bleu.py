"""Our BLEU against nltk's, on any short sentences."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llavamed_cli.evaluation.scoring.bleu import sentence_bleu

bleu_score = pytest.importorskip("nltk.translate.bleu_score")
sentences = st.lists(st.sampled_from("abcde"), max_size=8)
all_weights = st.sampled_from([(0.25,) * 4, (1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (1.0,), (0.5, 0.5)])


@settings(deadline=None)
@given(reference=sentences, prediction=sentences, weights=all_weights)
def test_equals_nltk(reference: list[str], prediction: list[str], weights: tuple[float, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = bleu_score.sentence_bleu([reference], prediction, weights=weights)
    assert sentence_bleu(reference, prediction, weights) == pytest.approx(float(expected), rel=1e-12, abs=1e-300)
