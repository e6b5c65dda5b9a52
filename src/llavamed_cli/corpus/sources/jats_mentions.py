"""The sentences of an article that mention each figure: by its `xref`s, and by plain "Fig. 2" where nothing links.

Sentences, not paragraphs: the one that refers to a figure describes it, its neighbours often another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llavamed_cli.corpus.sentences import split_sentences
from llavamed_cli.corpus.sources.jats_text import FIGURE_REFERENCE, ancestor, descendants, local_name, marked_text, tidy

if TYPE_CHECKING:
    from lxml.etree import _Element

TEXT_BLOCKS = ("p", "title", "td", "th", "article-title")
FLOATS = ("fig", "fig-group", "supplementary-material", "media", "caption")
"""What stands in one of these describes another picture, film or table than the figure it refers to."""
NOTES = ("ack", "author-notes", "notes", "fn")
"""Who made which figure, and the like."""
PARTS = ("sub-article", "response")
"""Letters of reviewers and answers to them: they speak of the article's figures, but do not describe them."""
LONGEST_RANGE = 50
"""A "range" over more figures than an article has is a misreading."""
LOOK_BACK = 20

_PANELS = r"(?:[a-z]{1,3}|\s[a-z])?(?!\w)"
_NUMBERED = re.compile(
    rf"[Ff](?i:ig(?:ure)?(?P<plural>s)?\.?\s*(?P<list>\d+{_PANELS}(?!\.\d)(?:(?:\s*[,;&/–—-]\s*|\s+)"
    rf"(?:and\s+|to\s+|through\s+)?(?:fig(?:ure)?s?\.?\s*)?(?:\d{{1,3}}{_PANELS}|[a-z](?!\w)))*)"
    r"(?!\s*—?figure supplement))"
)
_FIGURE_AND_NUMBER = re.compile(r"[Ff](?i:ig(?:ure)?s?)\W{0,4}\d")
_BEFORE = ("supplementary ", "supplemental ", "supplement ", "additional ")
_AFTER = re.compile(
    r"\s+(?:of|in|from)(?:\s+the)?"
    r"(?:[.,;)]|\s+refs?\b|\s+references?\b|\s+[A-Z][\w’'-]+\s+(?:et al|and [A-Z]|\(?(?:19|20)\d\d))"
)
"""What stands before or after a "figure 2" that is not this article's: "in Smith et al.", "of [12]" less its number."""
_NUMBER = re.compile(
    r"(?P<dash>[–—-]|\b(?:to|through)\b(?!\s+fig(?:ure)?\b))?\s*(?P<word>fig(?:ure)?s?\.?\s*)?(?P<number>\d+)"
    r"(?P<panel>[a-z]{1,3}\b)?",
    re.I,
)
_LABEL = re.compile(r"^\W*fig(?:ure)?s?\.?\s*(?P<number>\d+)\W*$", re.I)


@dataclass(frozen=True, kw_only=True)
class ReferringSentence:
    """A sentence that refers to figures.

    rids: the ids its `xref`s name, as they stand there. references: how many `xref`s it has.
    numbers: the figure numbers its words name, ranges filled in. aside: it is no part of the article's own account.
    part: the reviewer's letter or the answer that it stands in, None for the article itself.
    """

    text: str
    rids: tuple[str, ...]
    references: int
    numbers: tuple[int, ...]
    aside: bool
    part: _Element | None


def referring_sentences(article: _Element) -> Iterator[ReferringSentence]:
    """Every sentence of the article that refers to a figure, in document order."""
    for block, xrefs in _blocks(article).items():
        aside = ancestor(block, *FLOATS, *NOTES) is not None
        part = ancestor(block, *PARTS)
        rids = iter([tuple((xref.get("rid") or "").split()) for xref in xrefs])
        for marked in split_sentences(marked_text(block)):
            references = marked.count(FIGURE_REFERENCE)
            if not references and not _may_name_a_figure(marked):
                continue
            text = tidy(marked.replace(FIGURE_REFERENCE, ""))
            numbers = numbers_named(text)
            if references or numbers:
                named = tuple(rid for _ in range(references) for rid in next(rids, ()))
                yield ReferringSentence(
                    text=text, rids=named, references=references, numbers=numbers, aside=aside, part=part
                )


def find_mentions(
    article: _Element, figures: Mapping[str, _Element], labels: Mapping[str, str | None]
) -> dict[str, tuple[str, ...]]:
    """For each figure, by its key, the sentences of the running text that mention it, each once."""
    parts = {key: ancestor(figure, *PARTS) for key, figure in figures.items()}
    by_number: dict[tuple[_Element | None, int], str] = {}
    for key, label in labels.items():
        if numbered := _LABEL.match(label or ""):
            by_number.setdefault((parts[key], int(numbered["number"])), key)
    mentions: dict[str, dict[str, None]] = {key: {} for key in figures}
    for sentence in referring_sentences(article):
        if sentence.aside:
            continue
        for key in (*sentence.rids, *(by_number.get((sentence.part, number), "") for number in sentence.numbers)):
            if key in mentions and parts[key] is sentence.part:
                mentions[key][sentence.text] = None
    return {key: tuple(sentences) for key, sentences in mentions.items()}


def numbers_named(text: str) -> tuple[int, ...]:
    """The figure numbers that words name: "Figs. 2-4 and 6B" is 2, 3, 4, 6.

    A list after a singular "Fig." that runs on into a word may count something else: "Fig. 1, 59 patients" is 1. Figure
    S2, supplements, and the figures of other papers are not meant.
    """
    numbers: dict[int, None] = {}
    for named in _NUMBERED.finditer(text):
        before = text[max(0, named.start() - LOOK_BACK) : named.start()]
        if before[-1:].isalnum() or before.lower().endswith(_BEFORE) or _AFTER.match(text, named.end()):
            continue
        listed = bool(named["plural"]) or not text[named.end() :][:2].strip().isalnum()
        previous = None
        for part in _NUMBER.finditer(named["list"]):
            if previous is not None and not (listed or part["dash"] or part["panel"] or part["word"]):
                break
            number = int(part["number"][:4])
            if part["dash"] and previous is not None and previous < number < previous + LONGEST_RANGE:
                numbers.update(dict.fromkeys(range(previous + 1, number)))
            numbers[number] = None
            previous = number
    return tuple(numbers)


def _blocks(article: _Element) -> dict[_Element, list[_Element]]:
    """Every block of text that may refer to a figure, with its figure references, in document order."""
    from lxml.etree import tostring

    blocks: dict[_Element, list[_Element]] = {}
    for element in descendants(article, "p", "xref"):
        if local_name(element) == "p":
            blocks[element] = []
        elif element.get("ref-type") == "fig":
            blocks.setdefault(_block_of(element), []).append(element)
    return {
        block: xrefs
        for block, xrefs in blocks.items()
        if xrefs or _may_name_a_figure(tostring(block, method="text", encoding="unicode", with_tail=False))
    }


def _may_name_a_figure(text: str) -> bool:
    """Quick searches that spare nine texts in ten the reading."""
    return ("Fig" in text or "fig" in text or "FIG" in text) and _FIGURE_AND_NUMBER.search(text) is not None


def _block_of(xref: _Element) -> _Element:
    """The paragraph or cell that an `xref` stands in; what it stands in at all, if that is neither."""
    parent = xref.getparent()
    block = parent
    while block is not None and local_name(block) not in TEXT_BLOCKS:
        block = block.getparent()
    return block if block is not None else parent if parent is not None else xref
