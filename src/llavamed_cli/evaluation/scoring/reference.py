"""The published LLaVA-Med VQA formulae, quirks included, so that numbers compare with published tables.

Do not judge a model by these: recall rewards long answers, repeated words raise it, and a closed answer is right when
the reference is a substring ("no" is in "normal"). `strict.py` is for judging. Source: LLaVA-Med v1.0,
llava/eval/run_eval.py, run_eval_batch.py and eval_metrics/; the published open "accuracy" is the mean of `recall`, the
closed one of `closed_accuracy`. All values are percent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from llavamed_cli.evaluation.scoring.bleu import LEAST, brevity_penalty, geometric_mean, ngram_precisions
from llavamed_cli.evaluation.scoring.candidates import Candidates
from llavamed_cli.evaluation.scoring.word_lists import ARTICLES, CONTRACTIONS, DIGITS

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
MARKS = frozenset(PUNCTUATION)
WORD_FORMS = {**CONTRACTIONS, **DIGITS, "none": "0", **dict.fromkeys(ARTICLES, "")}
"""What a word becomes; an article nothing."""
COMMA_IN_NUMBER = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")
PERIODS_REMOVED = 32  # the original passes re.UNICODE, which is 32, where re.sub takes a count
BLEU_ORDERS = 4
TEXTS_KEPT = 8192
"""Reference answers and short predictions repeat: the last ones are normalised once."""


@lru_cache(maxsize=TEXTS_KEPT)
def normalize(text: str) -> str:
    """The published normalisation; not idempotent.

    A mark is deleted if it stands beside a space anywhere in the text, or if the text has a comma inside a number;
    otherwise it becomes a space.
    """
    text = text.lower()
    result = text
    if not MARKS.isdisjoint(text):
        comma_in_number = COMMA_IN_NUMBER.search(text) is not None
        for mark in PUNCTUATION:
            if mark in text:
                deleted = comma_in_number or f"{mark} " in text or f" {mark}" in text
                result = result.replace(mark, "" if deleted else " ")
    result = PERIOD.sub("", result, count=PERIODS_REMOVED)
    return " ".join(filter(None, [WORD_FORMS.get(word, word) for word in result.split()]))


def score_open(prediction: str, reference: str, candidates: Candidates | None = None) -> dict[str, float]:
    """Scores of one open answer.

    Args:
        candidates: training answers; with them, `nearest_accuracy` is the open accuracy of run_eval.py.

    Returns:
        "recall", "precision", "f1", "exact_match" (in truth a precision over distinct words), "bleu" and "bleu_1" to
        "bleu_3" (each of that n-gram alone), "open_accuracy" (reference is a substring), "nearest_accuracy".
    """
    prediction, reference = normalize(prediction), normalize(reference)
    found, known = normalize(prediction).split(), normalize(reference).split()  # again, as the original does
    precision, recall, f1 = _token_scores(found, known)
    scores = {
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "exact_match": len({*known} & {*found}) / len(found) if found else 0.0,
        **_bleu(reference.split(), prediction.split()),
        "open_accuracy": float(reference in prediction),
    }
    if candidates is not None:
        scores["nearest_accuracy"] = float(candidates.is_nearest(normalize(reference), found))
    return {name: 100 * value for name, value in scores.items()}


def score_closed(prediction: str, reference: str) -> dict[str, float]:
    """Scores of one closed answer.

    Returns:
        "closed_accuracy" (run_eval_batch.py: the reference is a substring), "closed_accuracy_yes_no" (run_eval.py: and
        the prediction holds "yes" or "no", in any word), "recall".
    """
    prediction, reference = normalize(prediction), normalize(reference)
    hit = reference in prediction
    scores = {
        "closed_accuracy": float(hit),
        "closed_accuracy_yes_no": float(hit and ("yes" in prediction or "no" in prediction)),
        "recall": _token_scores(normalize(prediction).split(), normalize(reference).split())[1],
    }
    return {name: 100 * value for name, value in scores.items()}


def _token_scores(prediction: Sequence[str], reference: Sequence[str]) -> tuple[float, float, float]:
    """Precision, recall, F1. A shared word counts as often as the prediction has it, even above the reference."""
    found, known = {*prediction}, {*reference}
    shared = sum(word in known for word in prediction)
    if not shared:
        return 0.0, 0.0, 0.0
    lacking = sum(word not in found for word in reference)
    precision, recall = shared / len(prediction), shared / (shared + lacking)
    return precision, recall, 2 * precision * recall / (precision + recall)


def _bleu(reference: Sequence[str], prediction: Sequence[str]) -> dict[str, float]:
    """BLEU over 1- to 4-grams, and that of each order alone."""
    precisions = ngram_precisions(reference, prediction, BLEU_ORDERS)
    if not precisions[0]:
        return dict.fromkeys(("bleu", "bleu_1", "bleu_2", "bleu_3"), 0.0)
    penalty = brevity_penalty(reference, prediction)
    return {
        "bleu": penalty * geometric_mean(precisions, LEAST),
        "bleu_1": penalty * precisions[0],
        "bleu_2": penalty * (precisions[1] or LEAST),
        "bleu_3": penalty * (precisions[2] or LEAST),
    }
