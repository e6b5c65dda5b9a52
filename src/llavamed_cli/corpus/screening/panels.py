"""The sub-panels that a caption names, with each one's text; and a composed picture split along with its caption.

Labels are believed only as a run that begins with A: "(C)" alone may be carbon, "(S)" skin. Splitting is stricter than
counting: nothing is split where the panels' texts cannot be told apart, or the picture has more or fewer of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from llavamed_cli.corpus.sentences import split_sentences

if TYPE_CHECKING:
    from PIL import Image

    from llavamed_cli.corpus.screening.gutters import Box


@dataclass(frozen=True)
class PanelText:
    """What a caption says of one panel, without the part it shares with others."""

    label: str
    text: str


@dataclass(frozen=True)
class Panels:
    """labels: as the caption writes them, each once; none for one plain picture. lead: said of all panels.

    texts: one a label, or none where the caption does not tell them apart.
    """

    labels: tuple[str, ...] = ()
    lead: str = ""
    texts: tuple[PanelText, ...] = ()


@dataclass(frozen=True)
class _Naming:
    """One place where a caption names panels. heads: it stands before what is said of them, not within or after it."""

    start: int
    end: int
    labels: tuple[str, ...]
    heads: bool


FEWEST_WORDS = 3
"""Of a part that stands before its label: "positive for HER2 (B), CK (C)" tells too little of the third panel."""

_LETTER = r"[A-Za-z](?:['′’](?!\w))?"
_LIST = rf"(?P<list>{_LETTER}(?:(?:\s?[,&;/–—-]\s?(?:and\s)?|\s(?:and|to)\s){_LETTER}(?!\w)){{0,12}})"
_SENTENCE_START = r"(?:^|(?<=[.;:!?]\s))"
_BRACKETED = re.compile(rf"\({_LIST}(?:[,;:]\s[^()]{{1,60}})?\)[.:]?")  # "(A)", "(A, B)", "(A–C; arrows)", "(A):"
_LEADING = (
    re.compile(rf"(?<![\w(]){_LIST}\)[.:]?\s"),  # "a) axial; b) coronal"
    re.compile(rf"(?:^|(?<=\s)){_LIST}:\s"),  # "a: axial; b-f: coronal"
    re.compile(rf"(?:^|(?<=\s)|(?<=[a-z]\))){_LIST}\.\s(?=[^\sa-z])"),  # "A. Axial. B, C. Coronal"
    re.compile(  # "a Axial. b–d Coronal", "B and C coronal"
        rf"{_SENTENCE_START}{_LIST}(?:\s(?=[^\W_a-z]|\()|(?<=[^\W_][\s,&–—-][^\W_])\s|(?<=and\s\w)\s)"
    ),
    re.compile(rf"(?:^|(?<=[.;]\s)){_LIST},\s"),  # "A, axial view; B, coronal view"
)
_IN_PROSE = re.compile(rf"\b(?:in|[Pp]anels?)\s\(?{_LIST}(?![\w'’])\)?")  # "the plot in B", "Panel (A) is"
_RANGE = re.compile(rf"(?P<first>{_LETTER})(?:\s?(?:[–—-]|to\b)\s?(?P<last>{_LETTER}))?(?!\w)")
_PLACE = r"left|right|top|bottom|upper|lower|middle|center|centre"
_PLACES = re.compile(
    rf"\b(?P<list>(?:{_PLACE})(?:[\s-](?:{_PLACE}))?)(?P<colon>\s?:|(?:[\s-]hand)?\s(?:panels?|rows?|columns?|images?|side)\s?:)"
    rf"|\b(?P<part>(?:{_PLACE})(?:[\s-](?:{_PLACE}))?)(?:[\s-]hand)?\s(?:panels?|rows?|columns?)\b|\((?P<alone>{_PLACE})\)",
    re.I,
)
_BEFORE_A_HEAD = re.compile(r"(?:^|[.;:,!?])\s*(?:and\s|while\s)?$")
_JOINTS_BEFORE, _JOINTS_AFTER = " \t\n,;:.)–—-", " \t\n,;:(–—-"


def find_panels(caption: str) -> Panels:
    """The panels that a caption names: by letters, or by places where it names none by letters."""
    bracketed = list(_namings(_BRACKETED, caption))
    leading = [list(_namings(way, caption, heads=True)) for way in _LEADING]
    mixed = sorted(chain.from_iterable(leading[1:]), key=lambda naming: naming.start)  # "A. Axial. B–D: coronal"
    namings = max([bracketed, *map(_in_order, [*leading, mixed])], key=lambda way: len(_run(way)))
    if len(_run(namings)) < 2:
        namings = sorted([*bracketed, *_namings(_IN_PROSE, caption)], key=lambda naming: naming.start)
    labels = _run(namings)
    if len(labels) < 2:
        return _by_places(caption)
    lead, texts = _leading_texts(caption, labels, namings) or _following_texts(caption, labels, namings) or ("", ())
    return Panels(labels, lead, texts)


def split_panels(
    picture: Image.Image, boxes: Sequence[Box], panels: Panels
) -> list[tuple[PanelText, Image.Image]] | None:
    """Each panel's text, after what the caption says of all, with its part of the picture, in reading order.

    None: the panels cannot be told apart, in the caption or in the picture, or their numbers differ.
    """
    if len(panels.texts) < 2 or len(boxes) != len(panels.texts):
        return None
    lead = f"{panels.lead} " if panels.lead else ""
    return [
        (PanelText(panel.label, lead + panel.text), picture.crop(box))
        for panel, box in zip(panels.texts, boxes, strict=True)
    ]


def _namings(way: re.Pattern[str], caption: str, heads: bool | None = None) -> Iterator[_Naming]:
    for match in way.finditer(caption):
        before = caption[max(0, match.start() - 12) : match.start()]
        first = heads if heads is not None else _BEFORE_A_HEAD.search(before) is not None
        yield _Naming(match.start(), match.end(), _letters(match["list"]), first)


def _letters(listed: str) -> tuple[str, ...]:
    """ "A, C–E" as A, C, D, E."""
    letters: list[str] = []
    for match in _RANGE.finditer(re.sub("['’]", "′", listed.replace("and", ","))):
        first, last = match["first"], match["last"]
        if last and first[0] < last[0] and first[0].isupper() == last[0].isupper():
            prime = first[1:]
            letters.extend(chr(code) + prime for code in range(ord(first[0]), ord(last[0]) + 1))
        else:
            letters.extend(filter(None, (first, last)))
    return tuple(letters)


def _run(namings: Sequence[_Naming]) -> tuple[str, ...]:
    """The labels from A on without a gap, capitals or small letters, whichever are more; primed ones with their own."""
    named = {label for naming in namings for label in naming.labels}
    runs = []
    for first in "Aa":
        run: list[str] = []
        while (letter := chr(ord(first) + sum(1 for label in run if len(label) == 1))) in named:
            run.extend(label for label in (letter, letter + "′") if label in named)
        runs.append(tuple(run))
    return max(runs, key=len)


def _in_order(namings: list[_Naming]) -> list[_Naming]:
    """`namings` as far as they name panels one after the other; none where the first is not A."""
    kept: list[_Naming] = []
    following = "a"
    for naming in namings:
        first = naming.labels[0][0]
        if first.lower() <= following and (not kept or first.isupper() == kept[0].labels[0].isupper()):
            kept.append(naming)
            following = max(following, chr(ord(naming.labels[-1][0].lower()) + 1))
    return kept


def _by_places(caption: str) -> Panels:
    """Panels named "left panel", "Top row:", "(right)"; texts where each is followed by a colon."""
    matches = list(_PLACES.finditer(caption))
    named = [(match["list"] or match["part"] or match["alone"]).lower() for match in matches]
    labels = tuple(dict.fromkeys(named))
    if len(labels) < 2:
        return Panels()
    namings = [
        _Naming(match.start(), match.end(), (name,), match["colon"] is not None)
        for match, name in zip(matches, named, strict=True)
    ]
    lead, texts = _leading_texts(caption, labels, namings) or ("", ())
    return Panels(labels, lead, texts)


def _leading_texts(
    caption: str, labels: Sequence[str], namings: Sequence[_Naming]
) -> tuple[str, tuple[PanelText, ...]] | None:
    """The texts where every label stands before what is said of its panel: up to the next label that does."""
    heads = [naming for naming in namings if naming.heads and set(naming.labels) & set(labels)]
    if not heads:
        return None
    parts: dict[str, list[str]] = {label: [] for label in labels}
    ends = [naming.start for naming in heads[1:]] + [len(caption)]
    for naming, end in zip(heads, ends, strict=True):
        text = _trimmed(caption[naming.end : end])
        for label in naming.labels if text else ():
            if label in parts:
                parts[label].append(text)
    if not all(parts.values()):
        return None
    lead = _ended(_trimmed(caption[: heads[0].start]))
    return lead, tuple(PanelText(label, " ".join(map(_ended, parts[label]))) for label in labels)


def _following_texts(
    caption: str, labels: Sequence[str], namings: Sequence[_Naming]
) -> tuple[str, tuple[PanelText, ...]] | None:
    """The texts where every label, named once, stands after what is said of its panel, and nothing more follows."""
    if sorted(label for naming in namings for label in naming.labels) != sorted(labels):
        return None
    parts: dict[str, str] = {}
    lead: list[str] = []
    start = 0
    for sentence in split_sentences(caption):
        begin = caption.index(sentence, start)
        start = begin + len(sentence)
        inside = [naming for naming in namings if begin <= naming.start < start]
        if not inside and parts:
            return None
        if not inside:
            lead.append(sentence)
        if inside and _trimmed(caption[inside[-1].end : start]):
            return None
        for naming, before in zip(inside, [begin, *(naming.end for naming in inside)], strict=False):
            text = _trimmed(caption[before : naming.start])
            parts.update(dict.fromkeys(naming.labels, text))
    if any(len(parts.get(label, "").split()) < FEWEST_WORDS for label in labels):
        return None
    return " ".join(lead), tuple(PanelText(label, _ended(parts[label])) for label in labels)


def _trimmed(text: str) -> str:
    """`text` without the punctuation and "and" that joined it to its neighbours; a full stop at its end stays."""
    begun = text.lstrip(_JOINTS_BEFORE)
    if begun != text:
        begun = begun.removeprefix("and ")
    ended = begun.rstrip(_JOINTS_AFTER)
    while re.search(r"\band$", ended[-4:]):
        ended = ended[:-3].rstrip(_JOINTS_AFTER)
    return ended


def _ended(text: str) -> str:
    return text if not text or text[-1] in ".!?" else text + "."
