"""Whether an answer takes one side for another: left for right, north for south.

A side must stand in the text. Where the text names the other side too, the words around the answer's side must be at
least as near to those around the same side in the text as to those around the other: "a mass in the left kidney" is
not held up by "the left lung is clear; a mass in the right kidney".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llavamed_cli.corpus.words import WordGroups

REACH = 4
"""Words before and after a side that are compared."""
LOOKED_AT = 160
"""Characters before and after a side that hold them."""
MOST_JOINED = 4
"""Sides in a row that are of one thing, at most: "left, right and left"."""
FOLLOWING = 2
"""The weight of a word right after it, which is mostly what the side is of."""

_JOINED = re.compile(r"\s*(?:\([^()]{0,6}\))?\s*(?:and|or|,|/|&|-)\s*(?:the\s+)?")
_BRACKETS = re.compile(r"\([^()]*\)")
_PARTS = re.compile(r"[;)]|,\s+(?:and|but|while|whereas)\b")
_WORD = re.compile(r"\w+")
_SMALL_WORD = re.compile(
    r"the|and|with|was|were|are|has|have|his|her|its|this|that|these|those|from|for|into|also|which|there|image|picture"
    r"|seen|shows?|showing|shown|sides?"
)


@dataclass(frozen=True)
class SideNamed:
    """A side that a text names. of_both: by a word that names another too. around: the words about it, weighted."""

    name: str
    said: str
    of_both: bool
    around: Mapping[str, int]


def sides_named(sentences: Sequence[str], sides: WordGroups) -> list[SideNamed]:
    """Every side that `sentences` name; a word of two sides ("bilateral") names both."""
    named: list[SideNamed] = []
    for sentence in sentences:
        found = list(sides.named(sentence))
        places = [(start, end) for start, end, _ in found]
        for index, (start, end, names) in enumerate(found):
            around = _around(*_neighbourhood(sentence, places, index))
            named.extend(SideNamed(name, sentence[start:end], len(names) > 1, around) for name in names)
    return named


def check_side(claim: SideNamed, text: Sequence[SideNamed]) -> str | None:
    """None if `text` bears out `claim`; else "absent" or "other", of the side that the text gives there."""
    same = [known for known in text if known.name == claim.name]
    if not same:
        return "absent"
    if claim.of_both:
        return None
    other = [known for known in text if known.name != claim.name and not known.of_both]
    nearest = max(_nearness(claim, known) for known in same)
    return "other" if any(_nearness(claim, known) > nearest for known in other) else None


def _neighbourhood(sentence: str, places: Sequence[tuple[int, int]], index: int) -> tuple[str, str]:
    """What stands before and after the side at `places[index]` in its part of the sentence, as far as the next side.

    "left and right" are of the same thing; "(left)" is of what stands before.
    """
    first = last = index
    while first > max(0, index - MOST_JOINED) and _JOINED.fullmatch(sentence, places[first - 1][1], places[first][0]):
        first -= 1
    while last + 1 < min(len(places), index + MOST_JOINED) and _JOINED.fullmatch(
        sentence, places[last][1], places[last + 1][0]
    ):
        last += 1
    start, end = places[first][0], places[last][1]
    begins = max(places[first - 1][1] if first else 0, start - LOOKED_AT)
    ends = min(places[last + 1][0] if last + 1 < len(places) else len(sentence), end + LOOKED_AT)
    before, after = (_BRACKETS.sub(" ", part) for part in (sentence[begins:start], sentence[end:ends]))
    return _PARTS.split(before)[-1], _PARTS.split(after, maxsplit=1)[0]


def _nearness(one: SideNamed, two: SideNamed) -> int:
    return sum(min(weight, two.around.get(word, 0)) for word, weight in one.around.items())


def _around(before: str, after: str) -> dict[str, int]:
    """The words about a side, as far as the next side named."""
    leading = [_stem(word) for word in _WORD.findall(before.lower()) if _counts(word)][-REACH:]
    following = [_stem(word) for word in _WORD.findall(after.lower()) if _counts(word)][:REACH]
    around = dict.fromkeys((*leading, *following), 1)
    return {**around, following[0]: FOLLOWING} if following else around


def _stem(word: str) -> str:
    return word.removesuffix("s")


def _counts(word: str) -> bool:
    return len(word) > 2 and not _SMALL_WORD.fullmatch(word)
