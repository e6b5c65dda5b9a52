"""What a sentence affirms and what it denies, by the words of negation around a thing that it names.

Rules in the manner of NegEx (Chapman et al. 2001): a negation holds for what follows it in its clause, within a few
words; a list goes on ("no effusion, mass or fracture"). What is doubted ("cannot be excluded") counts as affirmed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from llavamed_cli.corpus.words import WordGroups

REACH_BEFORE, REACH_AFTER = 8, 5
"""Words between a negation and what it denies."""
LOOKED_AT = 160
"""Characters before and after a thing that decide, so that no text takes longer than its length."""
SAME_LETTERS = 5

_CLAUSE_ENDS = re.compile(
    r"[;:.]|\b(?:but|however|although|though|except|whereas|while|which|because|showed|shows|showing|revealed|reveals"
    r"|demonstrated|demonstrates|apart from)\b",
    re.I,
)
_NEGATION = re.compile(
    r"\b(?:no|not|without|absence of|absent|lack of|lacks|lacking|negative for|free of|neither|nor|never)\b|n['’]t\b"
    r"|\b(?:rather than|instead of|exclud(?:e|es|ed|ing)|rul(?:es?|ed|ing) out)\b",
    re.I,
)
_DENIED_AFTER = re.compile(
    r"^\W*(?:\w+\W+){0,2}?(?:(?:is|are|was|were|has been|have been)\s+)?(?:absent|excluded|ruled out|not\s+(?:be\s+)?"
    r"(?:seen|visible|present|identified|detected|observed|found|evident|apparent|shown))\b",
    re.I,
)
_NO_NEGATION = re.compile(
    r"\bnot only\b|\bwith or without\b|\b(?:can\s?not|could not|can['’]t|couldn['’]t) be (?:excluded|ruled out)\b"
    r"|\bno (?:\w+ )?(?:change|increase|decrease|difference|doubt)\b",
    re.I,
)


@dataclass
class Asserted:
    """A thing that a text names: the words by which it is affirmed, and those by which it is denied."""

    affirmed: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)

    def bears_out_denial(self, word: str) -> bool:
        """Whether the thing is denied, by any word where it is never affirmed, else by `word`.

        A text that says "a mass without metastases" does not deny the mass, although both words are of one list.
        """
        return bool(self.denied) and (not self.affirmed or any(_alike(word, denied) for denied in self.denied))


def assertions(sentences: Iterable[str], things: WordGroups) -> dict[str, Asserted]:
    """What `sentences` name of `things`, by name."""
    found: dict[str, Asserted] = {}
    for sentence in sentences:
        plain = _NO_NEGATION.sub(lambda match: "~" * len(match.group()), sentence)
        for start, end, names in things.named(sentence):
            for name in names:
                asserted = found.setdefault(name, Asserted())
                words = asserted.denied if is_denied(plain, start, end) else asserted.affirmed
                words.append(sentence[start:end])
    return found


def _alike(one: str, two: str) -> bool:
    """Whether two words begin alike, as "fracture" and "fractures"."""
    return one[:SAME_LETTERS].lower() == two[:SAME_LETTERS].lower()


def is_denied(sentence: str, start: int, end: int) -> bool:
    """Whether what stands from `start` to `end` is denied by the words around it."""
    before, after = sentence[max(0, start - LOOKED_AT) : start], sentence[end : end + LOOKED_AT]
    clause = _CLAUSE_ENDS.split(before)[-1]
    negation = next(reversed(list(_NEGATION.finditer(clause))), None)
    if negation is not None and len(clause[negation.end() :].split()) <= REACH_BEFORE:
        return True
    denied = _DENIED_AFTER.match(_CLAUSE_ENDS.split(after, maxsplit=1)[0])
    return denied is not None and len(denied.group().split()) <= REACH_AFTER
