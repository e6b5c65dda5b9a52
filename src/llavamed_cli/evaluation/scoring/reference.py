"""The published LLaVA-Med VQA formulae, quirks included, so that numbers compare with published tables.

Do not judge a model by these: recall rewards long answers, repeated words raise it, and a closed answer is right when
the reference is a substring ("no" is in "normal"). `strict.py` is for judging. Source: LLaVA-Med v1.0,
llava/eval/run_eval.py, run_eval_batch.py and eval_metrics/; the published open "accuracy" is the mean of `recall`, the
closed one of `closed_accuracy`. All values are percent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from llavamed_cli.evaluation.scoring.bleu import sentence_bleu
from llavamed_cli.evaluation.scoring.word_lists import ARTICLES, CONTRACTIONS, DIGITS

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBER_WORDS = {"none": "0", **DIGITS}
COMMA_IN_NUMBER = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")
PERIODS_REMOVED = 32  # the original passes re.UNICODE, which is 32, where re.sub takes a count
BLEU_WEIGHTS = {
    "bleu": (0.25, 0.25, 0.25, 0.25),
    "bleu_1": (1.0, 0.0, 0.0, 0.0),
    "bleu_2": (0.0, 1.0, 0.0, 0.0),
    "bleu_3": (0.0, 0.0, 1.0, 0.0),
}


def normalize(text: str) -> str:
    """The published normalisation; not idempotent.

    A mark is deleted if it stands beside a space anywhere in the text, or if the text has a comma inside a number;
    otherwise it becomes a space.
    """
    text = text.lower()
    result = text
    for mark in PUNCTUATION:
        deleted = f"{mark} " in text or f" {mark}" in text or COMMA_IN_NUMBER.search(text)
        result = result.replace(mark, "" if deleted else " ")
    result = PERIOD.sub("", result, count=PERIODS_REMOVED)
    words = (NUMBER_WORDS.get(word, word) for word in result.split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def score_open(prediction: str, reference: str, candidates: Sequence[str] = ()) -> dict[str, float]:
    """Scores of one open answer.

    Args:
        candidates: training answers, normalised; with them, `nearest_accuracy` is the open accuracy of run_eval.py.

    Returns:
        "recall", "precision", "f1", "exact_match" (in truth a precision over distinct words), "bleu" and "bleu_1" to
        "bleu_3" (each of that n-gram alone), "open_accuracy" (reference is a substring), "nearest_accuracy".
    """
    prediction, reference = normalize(prediction), normalize(reference)
    precision, recall, f1 = _token_scores(prediction, reference)
    scores = {
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "exact_match": _exact_match(prediction, reference),
        **{name: sentence_bleu(reference.split(), prediction.split(), w) for name, w in BLEU_WEIGHTS.items()},
        "open_accuracy": float(reference in prediction),
    }
    if candidates:
        scores["nearest_accuracy"] = float(_nearest(prediction, candidates) == normalize(reference))
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
        "recall": _token_scores(prediction, reference)[1],
    }
    return {name: 100 * value for name, value in scores.items()}


def _token_scores(prediction: str, reference: str) -> tuple[float, float, float]:
    """Precision, recall, F1. A shared word counts as often as the prediction has it, even above the reference."""
    found, known = Counter(normalize(prediction).split()), Counter(normalize(reference).split())
    shared = sum(count for word, count in found.items() if word in known)
    if not shared:
        return 0.0, 0.0, 0.0
    surplus = sum(count for word, count in found.items() if word not in known)
    lacking = sum(count for word, count in known.items() if word not in found)
    precision, recall = shared / (shared + surplus), shared / (shared + lacking)
    return precision, recall, 2 * precision * recall / (precision + recall)


def _exact_match(prediction: str, reference: str) -> float:
    words = normalize(prediction).split()
    return len({*normalize(reference).split()} & {*words}) / len(words) if words else 0.0


def _nearest(prediction: str, candidates: Sequence[str]) -> str:
    """The training answer of which the prediction holds the largest share of words; the first of the best."""
    words = {*normalize(prediction).split()}

    def share(candidate: str) -> float:
        wanted = {*candidate.split()}
        return len(wanted & words) / len(wanted) if wanted else 0.0

    return max(candidates, key=share)
