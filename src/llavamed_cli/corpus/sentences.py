"""Splitting English scientific prose into sentences by rule: no model, no data to load; it errs towards joining."""

from __future__ import annotations

import re

ABBREVIATION = re.compile(
    r"figs?|eqs?|refs?|tabs?|sect?|vol|ext|suppl?|e\.?g|i\.?e|c\.?f|ca|approx|vs|al|dr|mrs?|ms|prof|st|mt|resp|viz|nos"
    r"|s?spp?|subsp|var|cv|i\.[vpm]|s\.c|p\.o|incl|dept|univ|inc|ltd|co|corp|[js]r|u\.[sk]|pp?",
    re.I,
)
"""Words (without their last dot) after which a dot does not end a sentence."""
LONGEST_ABBREVIATION = 6

OPENERS = frozenset(
    word
    for words in (
        "a after all an as at both however in it note our the there these they this those thus to we when while with",
        "arrow arrowhead arrowheads arrows asterisk asterisks bar bars data error fig figs figure figures scale tables",
    )
    for word in words.split()
)
"""Words that begin a sentence after a single capital: "in panel B. The lung", but "by J. Smith"."""

BEFORE_A_NAME = frozenset(["against", "and", "by", "for", "from", "in", "of", "or", "the", "to", "with"])
"""Words after which a single capital begins a name: "by J. Smith", "of S. Typhimurium"."""

LOOK_BACK = 60
"""Characters before a dot that decide about it, so that no text takes longer than its length."""

_END = re.compile(r"""[.!?](?![.!?])["'”’)\]]*(?=\s+(?P<next>\S+))""")
_LAST_WORD = re.compile(r"[\w.&-]+$")
_INITIALS = re.compile(r"[A-Z](?:\.-?[A-Z]){0,2}")
_FIGURE_IN_BRACKETS = re.compile(r"[(\[]\W*(?:see\s)?\W*fig", re.I)


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
    if following[0].islower() and not _is_a_symbol(following):
        return False
    if following[0] in "([" and _FIGURE_IN_BRACKETS.match(text, end.start("next")):
        return False  # "It is round. (Fig. 2)" tells where the round thing is seen
    before = text[max(start, end.start() - LOOK_BACK) : end.start()]
    if text[end.start()] != "." or before.endswith((".", "!", "?")):
        return True
    last = _LAST_WORD.search(before, before.rfind(" ") + 1)
    if last is None:
        return True
    word = last.group().strip("-")
    if len(word) > LONGEST_ABBREVIATION:
        return True
    if ABBREVIATION.fullmatch(word):
        return False
    if word.lower() == "no":
        return not following[0].isdigit()
    return not (_is_initial(word) and _in_a_name(before[: last.start()], following))


def _is_a_symbol(word: str) -> bool:
    """A word that stays small at the head of a sentence: "mRNA", "p53", "pH"."""
    return any(letter.isupper() or letter.isdigit() for letter in word)


def _is_initial(word: str) -> bool:
    """A capital or two, as in "J. Smith" and "J.A. Smith"."""
    return _INITIALS.fullmatch(word) is not None


def _in_a_name(before: str, after: str) -> bool:
    """Whether a capital between these is an initial: "by J. Smith", at the start; not "in panel B. It"."""
    if after.strip(",;:").lower() in OPENERS:
        return False
    words = before.split()
    if not words or words[-1].lower() in BEFORE_A_NAME or before.endswith(("(", "[")):
        return True
    return words[-1][0].isupper() and len(words[-1]) > 1
