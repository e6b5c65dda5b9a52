"""Scores that say what was right: whole words, counted once, and an answer that cannot be read is not a hit.

Text is compared as words: Unicode NFKC, lower case, punctuation dropped (decimal points stay, hyphens part words),
number words up to ten as digits, articles dropped unless nothing else is there. A Chinese character is a word by
itself, whatever the question's language. All values are percent.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from llavamed_cli.evaluation.scoring.bleu import brevity_penalty, geometric_mean, ngram_precisions, shared_count
from llavamed_cli.evaluation.scoring.choices import chosen
from llavamed_cli.evaluation.scoring.verdicts import HAN, asks_yes_or_no, yes_or_no
from llavamed_cli.evaluation.scoring.word_lists import ARTICLES, CHINESE_DIGITS, DIGITS

LETTER = f"[^\\W_{HAN}]"
WORD = re.compile(rf"[{HAN}]|{LETTER}+(?:['’]{LETTER}+|\.\d+)*")
NUMBERS = {**DIGITS, **CHINESE_DIGITS}
TEXTS_KEPT = 8192
BLEU_ORDERS = (1, 2, 3, 4)


@lru_cache(maxsize=TEXTS_KEPT)
def words(text: str) -> tuple[str, ...]:
    """The words of a text that are compared; its marks where it has no word."""
    found = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    plain = [NUMBERS.get(word, word).replace("'", "").replace("’", "") for word in found]
    return tuple([word for word in plain if word not in ARTICLES] or plain or text.split())


def score_open(prediction: str, reference: str) -> dict[str, float]:
    """Scores of one open answer.

    Returns:
        "accuracy" (the same words in the same order), "recall", "precision" and "f1" (a word counts at most as often as
        the other side has it), "bleu_1" to "bleu_4".
    """
    found, known = words(prediction), words(reference)
    shared = shared_count(found, known)
    scores = {
        "accuracy": float(found == known),
        "recall": shared / len(known) if known else 0.0,
        "precision": shared / len(found) if found else 0.0,
        "f1": 2 * shared / (len(found) + len(known)) if shared else 0.0,
        **_bleu(found, known),
    }
    return {name: 100 * value for name, value in scores.items()}


def score_closed(prediction: str, reference: str, choices: Sequence[str] = ()) -> dict[str, float]:
    """Score of one closed answer, "accuracy".

    A yes/no question, which is one whose reference begins with either, asks for the same verdict; a question that
    lists its choices for the one that the reference is; any other for the reference's words.
    """
    if choices:
        right = chosen(prediction, choices, words) == chosen(reference, choices, words) is not None
    else:
        verdict = asks_yes_or_no(reference)
        right = words(prediction) == words(reference) if verdict == "unparsed" else yes_or_no(prediction) == verdict
    return {"accuracy": 100.0 * right}


def _bleu(found: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """Sentence BLEU-1 to BLEU-4, cumulative (Papineni et al. 2002), as nltk computes it without smoothing.

    Three things keep it strict. Orders that the reference is too short for are left out, so that a right answer of one
    word has 100. An order without a match is 0. A word that is said again, more often than the reference has it, is
    passed over: it would otherwise pay off the brevity penalty.
    """
    said = _without_repeats(found, known)
    precisions = ngram_precisions(known, said, min(BLEU_ORDERS[-1], len(known)))
    if not any(precisions):
        return {f"bleu_{order}": 0.0 for order in BLEU_ORDERS}
    penalty = brevity_penalty(known, said)
    return {f"bleu_{order}": penalty * geometric_mean(precisions[:order], 0) for order in BLEU_ORDERS}


def _without_repeats(found: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """The words up to as often as the reference has them, and others once."""
    if len({*found}) == len(found):
        return found
    left = Counter(dict.fromkeys(found, 1)) | Counter(known)
    kept = []
    for word in found:
        if left[word]:
            left[word] -= 1
            kept.append(word)
    return kept
