"""The sentences of an article that mention each figure: by its `xref`s, and by plain "Fig. 2" where nothing links.

Sentences, not paragraphs: the one that refers to a figure describes it, its neighbours often another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llavamed_cli.corpus.sentences import split_sentences
from llavamed_cli.corpus.sources.jats_text import FIGURE_REFERENCE, descendants, flatten, local_name, tidy

if TYPE_CHECKING:
    from lxml.etree import _Element

TEXT_BLOCKS = frozenset(["p", "title", "td", "th", "article-title"])
FLOATS = frozenset(["fig", "fig-group"])
LONGEST_RANGE = 50
"""A "range" over more figures than an article has is a misreading."""

_NUMBERED = re.compile(
    r"(?<!supplementary )(?<!supplemental )(?<!supplement )(?<!additional )(?<!\w)"
    r"fig(?:ure)?s?\.?\s*(?P<list>\d+\s?[a-z]{0,3}(?!\w)(?!\.\d)(?:(?:\s*[,;&/–—-]\s*|\s+)(?:and\s+|to\s+|through\s+)?"
    r"(?:fig(?:ure)?s?\.?\s*)?(?:\d{1,3}\s?[a-z]{0,3}|[a-z])(?!\w))*)(?!\s*—?figure supplement)",
    re.I,
)
_NUMBER = re.compile(r"(?P<dash>[–—-]|\bto\b|\bthrough\b)?\s*(?:fig(?:ure)?s?\.?\s*)?(?P<number>\d+)", re.I)
_LABEL = re.compile(r"^\W*fig(?:ure)?s?\.?\s*(?P<number>\d+)\W*$", re.I)


@dataclass(frozen=True, kw_only=True)
class ReferringSentence:
    """A sentence that refers to figures.

    rids: the ids its `xref`s name, as they stand there. references: how many `xref`s it has.
    numbers: the figure numbers its words name, ranges filled in. in_float: it is part of a figure's own caption.
    """

    text: str
    rids: tuple[str, ...]
    references: int
    numbers: tuple[int, ...]
    in_float: bool


def referring_sentences(article: _Element) -> Iterator[ReferringSentence]:
    """Every sentence of the article that refers to a figure, in document order."""
    for block, xrefs in _blocks(article).items():
        in_float = any(local_name(ancestor) in FLOATS for ancestor in block.iterancestors())
        rids = iter([tuple((xref.get("rid") or "").split()) for xref in xrefs])
        for marked in split_sentences(flatten(block, mark_references=True)):
            references = marked.count(FIGURE_REFERENCE)
            text = tidy(marked.replace(FIGURE_REFERENCE, ""))
            numbers = numbers_named(text)
            if references or numbers:
                named = [rid for _ in range(references) for rid in next(rids, ())]
                yield ReferringSentence(
                    text=text, rids=tuple(named), references=references, numbers=numbers, in_float=in_float
                )


def find_mentions(article: _Element, labels: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """For each figure id of `labels` (id to label), the sentences outside captions that mention it, each once."""
    by_number: dict[int, str] = {}
    for identity, label in labels.items():
        if numbered := _LABEL.match(label or ""):
            by_number.setdefault(int(numbered["number"]), identity)
    mentions: dict[str, dict[str, None]] = {identity: {} for identity in labels}
    for sentence in referring_sentences(article):
        if sentence.in_float:
            continue
        for identity in (*sentence.rids, *(by_number.get(number, "") for number in sentence.numbers)):
            if identity in mentions:
                mentions[identity][sentence.text] = None
    return {identity: tuple(sentences) for identity, sentences in mentions.items()}


def numbers_named(text: str) -> tuple[int, ...]:
    """The figure numbers that words name: "Figs. 2-4 and 6B" is 2, 3, 4, 6. Figure S2 and supplements are not meant."""
    numbers: dict[int, None] = {}
    for named in _NUMBERED.finditer(text):
        previous = None
        for part in _NUMBER.finditer(named["list"]):
            number = int(part["number"][:4])
            if part["dash"] and previous is not None and previous < number < previous + LONGEST_RANGE:
                numbers.update(dict.fromkeys(range(previous + 1, number)))
            numbers[number] = None
            previous = number
    return tuple(numbers)


def _blocks(article: _Element) -> dict[_Element, list[_Element]]:
    """Every block of text that may refer to a figure, with its figure references, in document order."""
    blocks: dict[_Element, list[_Element]] = {}
    for element in descendants(article, "p", "xref"):
        if local_name(element) == "p":
            blocks.setdefault(element, [])
        elif element.get("ref-type") == "fig":
            blocks.setdefault(_block_of(element), []).append(element)
    return blocks


def _block_of(xref: _Element) -> _Element:
    for ancestor in xref.iterancestors():
        if local_name(ancestor) in TEXT_BLOCKS:
            return ancestor
    parent = xref.getparent()
    return xref if parent is None else parent
