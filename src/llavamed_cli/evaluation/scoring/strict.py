"""Scores that say what was right: whole words, counted once, and an answer that cannot be read is not a hit.

Text is compared as words: Unicode NFKC, lower case, punctuation dropped (decimal points stay, hyphens part words),
number words up to ten as digits, articles dropped unless nothing else is there. All values are percent.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Literal

from llavamed_cli.evaluation.scoring.bleu import sentence_bleu
from llavamed_cli.evaluation.scoring.word_lists import ARTICLES, DIGITS

Verdict = Literal["yes", "no", "unparsed"]

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+|\.\d+)*")
UNIGRAM = (1.0,)


def words(text: str) -> list[str]:
    """The words of a text that are compared; its marks where it has no word."""
    found = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    plain = [DIGITS.get(word, word).replace("'", "").replace("’", "") for word in found]
    return [word for word in plain if word not in ARTICLES] or plain or text.split()


def yes_or_no(text: str) -> Verdict:
    """What an answer decides: its first whole word "yes" or "no"; "unparsed" if it has neither."""
    for word in words(text):
        if word == "yes":
            return "yes"
        if word == "no":
            return "no"
    return "unparsed"


def asks_yes_or_no(reference: str) -> Verdict:
    """The verdict a question's reference answer gives in its first word; "unparsed" if it is another kind of answer."""
    return yes_or_no(words(reference)[0]) if words(reference) else "unparsed"


def score_open(prediction: str, reference: str) -> dict[str, float]:
    """Scores of one open answer.

    Returns:
        "accuracy" (the same words in the same order), "recall", "precision" and "f1" (a word counts at most as often as
        the other side has it), "bleu_1" (unigram BLEU with its brevity penalty).
    """
    found, known = words(prediction), words(reference)
    shared = sum((Counter(found) & Counter(known)).values())
    scores = {
        "accuracy": float(found == known),
        "recall": shared / len(known) if known else 0.0,
        "precision": shared / len(found) if found else 0.0,
        "f1": 2 * shared / (len(found) + len(known)) if shared else 0.0,
        "bleu_1": sentence_bleu(known, found, UNIGRAM),
    }
    return {name: 100 * value for name, value in scores.items()}


def score_closed(prediction: str, reference: str) -> dict[str, float]:
    """Score of one closed answer, "accuracy": the same verdict on a yes/no question, the same words on any other."""
    verdict = asks_yes_or_no(reference)
    right = words(prediction) == words(reference) if verdict == "unparsed" else yes_or_no(prediction) == verdict
    return {"accuracy": 100.0 * right}
