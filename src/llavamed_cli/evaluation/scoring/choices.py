"""Which of a question's listed choices an answer names: by its letter, or by its words.

An answer that names two of them, or none, chooses none. "left lung" names "left lung" where "left" is listed too: the
longest choice at a place counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from string import ascii_uppercase

LETTER = re.compile(
    r"\s*(?:(?:the\s+)?(?:answer|option|choice)(?:\s+is)?\s*:?\s*)?\(?([A-Z])(?:[.):]|\s*$)", re.IGNORECASE
)
"""At the start: "B", "b.", "(B) liver", "B: liver", "Answer: B", "The answer is B"."""


def chosen(answer: str, choices: Sequence[str], words: Callable[[str], Sequence[str]]) -> int | None:
    """The place of the choice that an answer names; None if it names none, or several.

    Args:
        words: how texts become the words that are compared.
    """
    listed = [tuple(words(choice)) for choice in choices]
    said = tuple(words(answer))
    if said in listed:
        return listed.index(said)
    letter = LETTER.match(answer)
    if letter is not None and letter[1].upper() in ascii_uppercase[: len(choices)]:
        return ascii_uppercase.index(letter[1].upper())
    named = set()
    place = 0
    while place < len(said):
        here = [choice for choice in listed if choice and said[place : place + len(choice)] == choice]
        longest = max(here, key=len, default=None)
        if longest is not None:
            named.add(listed.index(longest))
        place += len(longest) if longest is not None else 1
    return named.pop() if len(named) == 1 else None
