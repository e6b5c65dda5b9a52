"""Splitting English scientific prose into sentences by rule: no model, no data to load; it errs towards joining."""

from __future__ import annotations

import re

ABBREVIATION = re.compile(
    r"figs?|eqs?|refs?|tabs?|sect?|vol|ext|suppl?|e\.?g|i\.?e|cf|ca|approx|vs|al|dr|mrs?|ms|prof|st|resp|viz|nos|spp?|subsp"
    r"|var|i\.[vpm]|s\.c|p\.o|incl|dept|univ|inc|ltd|co|corp|[js]r|u\.[sk]|pp?",
    re.I,
)
"""Words (without their last dot) after which a dot does not end a sentence."""

LOOK_BACK = 60
"""Characters before a dot that decide about it, so that no text takes longer than its length."""

_END = re.compile(r"""[.!?]+["'”’)\]]*(?=\s+(?P<next>\S))""")
_LAST_WORD = re.compile(r"[\w.&-]+$")


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`, in order, stripped. "Fig. 2", "e.g. this", "et al. 2004" and "Dr. Who" stay whole."""
    sentences = []
    start = 0
    for end in _END.finditer(text):
        if _ends_here(text, start, end):
            sentences.append(text[start : end.end()].strip())
            start = end.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends_here(text: str, start: int, end: re.Match[str]) -> bool:
    following = end["next"]
    if following.islower():
        return False
    if not end.group().startswith(".") or len(end.group().rstrip("\"'”’)]")) > 1:
        return True
    begin = max(start, end.start() - LOOK_BACK)
    last = _LAST_WORD.search(text, begin, end.start())
    if last is None:
        return True
    word = last.group().strip("-").rsplit("(", 1)[-1]
    if ABBREVIATION.fullmatch(word):
        return False
    if word.lower() == "no":
        return not following.isdigit()
    return not (_is_initial(word) and _in_a_name(text[begin : last.start()]))


def _is_initial(word: str) -> bool:
    """A single capital, as in "J. Smith"."""
    return len(word) == 1 and word.isupper()


def _in_a_name(before: str) -> bool:
    """Whether a capital that follows `before` is an initial: "by J.", "Smith J.", at the start; not "in panel B."."""
    words = before.split()
    return not words or words[-1].lower() in ("by", "and", "from") or (words[-1][0].isupper() and len(words[-1]) > 1)
