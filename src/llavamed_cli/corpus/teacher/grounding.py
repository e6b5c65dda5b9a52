"""Holds a conversation against the text that its teacher saw, and drops what that text does not bear out.

A teacher that is a model sees no picture, so whatever it says beyond the text is invented, and a model that learns
from it learns to invent. Checked are numbers and measurements, modalities, sides, and the findings that the domain
lists, affirmed or denied; not whether a sentence makes sense. One turn is dropped at a time, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Exchange
from llavamed_cli.corpus.screening.modality import find_modality
from llavamed_cli.corpus.screening.panels import find_panels
from llavamed_cli.corpus.sentences import split_sentences
from llavamed_cli.corpus.teacher.assertions import Asserted, assertions
from llavamed_cli.corpus.teacher.brief import Brief
from llavamed_cli.corpus.teacher.prompts import require_brief, text_shown
from llavamed_cli.corpus.teacher.references import capitalised, without_references
from llavamed_cli.corpus.teacher.sides import SideNamed, check_side, sides_named
from llavamed_cli.corpus.teacher.teaching import Drop
from llavamed_cli.corpus.units import Amount
from llavamed_cli.records import Figure

REFUSAL, SOURCE_TALK, TEMPLATE_TOKEN, LEANS = (
    "a refusal",
    "talk of the text instead of the picture",
    "a chat template's token",
    "asks on about a turn that was dropped",
)
NUMBER, MEASUREMENT, MODALITY, SIDE, OTHER_SIDE, FINDING, CONTRADICTION, ELSEWHERE = (
    "a number that the text does not give",
    "a measurement that the text does not give",
    "a modality that the text does not name",
    "a side that the text does not name",
    "a side where the text gives another",
    "a finding that the text does not name",
    "a finding against the text",
    "an answer about something else",
)
LEAST_SHARED, FEWEST_COMPARED = 0.2, 4
"""An answer shares at least this part of its longer words with the text, those of the domain's task apart ("health
professional"); one of fewer words is not judged by that. Of true answers to figures of other articles, three in four
share less; of the answers in the domains' examples, none."""
QUOTED = 160

_LONG_WORD = re.compile(r"[^\W\d_]{5,}")
_TEMPLATE_TOKEN = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]|<(?:unk|pad|bos|eos)>|<(?:start|end)_of_turn>", re.I)
_AFTER_OPENING = re.compile(r"^\s*[,:]?\s*(?:that\b\s*)?")
_YES_OR_NO = re.compile(r"^\W*(?P<word>yes|no)\b\s*(?:[,.;:!–—-]+\s*|$)", re.I)
_IS_THERE = re.compile(
    r"^\W*(?:is|are|was|were|do|does|did|can|could|has|have)\b.*\b(?:there|any|see|seen|evidence|signs?|shows?|have|has|"
    r"visible|present|contains?|reveals?)\b",
    re.I,
)
_POINTS_BACK = re.compile(
    r"\b(?:it|its|they|them|their|else|another|others?)\b|\b(?:this|that|these|those)\b(?!\s+(?P<noun>[\w-]+))"
    r"|\b(?:this|that|these|those)\s+(?P<thing>[\w-]+)",
    re.I,
)
_PICTURE_NOUNS = frozenset({"image", "picture", "photograph", "photo", "view", "figure", "case", "kind", "type"})


def check_dialogue(exchanges: Iterable[Exchange], figure: Figure, domain: Domain) -> tuple[list[Exchange], list[Drop]]:
    """The exchanges that may be learned from, and what was dropped. Openings ("By the caption, ...") are cut off.

    Raises:
        UsageError: the domain says nothing to a teacher.
    """
    check = _Check(domain, require_brief(domain), figure, read_seen(figure, domain))
    kept: list[Exchange] = []
    drops: list[Drop] = []
    dropped_last = False
    for question, answer in exchanges:
        asked, said = check.opened(question), check.opened(answer)
        drop = check.fault(asked, said)
        if drop is None and dropped_last and check.points_back(asked):
            drop = Drop(LEANS, asked[:QUOTED])
        dropped_last = drop is not None
        if drop is None:
            kept.append((asked, said))
        else:
            drops.append(drop)
    return kept, drops


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a teacher's text says. findings: by name. words: the beginnings of the long ones."""

    amounts: frozenset[tuple[str | None, str]]
    modalities: frozenset[str]
    sides: tuple[list[SideNamed], ...]
    findings: Mapping[str, Asserted]
    words: frozenset[str]


def read_seen(figure: Figure, domain: Domain) -> Seen:
    """What can be held against a conversation about `figure`.

    The numbers of figures and citations are no part of it; how many panels a caption names is.
    """
    brief = require_brief(domain)
    caption, mentions = text_shown(figure)
    sentences = [without_references(sentence) for sentence in (*split_sentences(caption), *mentions)]
    text = "\n".join(sentences)
    named = {name for *_, names in domain.modality_words.named(text) for name in names}
    amounts = [*brief.units.amounts(text), *brief.units.bare_numbers(text)]
    if (panels := len(find_panels(caption).labels)) > 1:
        amounts.append(Amount(str(panels), panels))
    return Seen(
        amounts=frozenset(amount.key for amount in amounts),
        modalities=frozenset(named),
        sides=tuple(sides_named(sentences, sides) for sides in brief.sides),
        findings=assertions(sentences, brief.findings),
        words=_long_words(text),
    )


@dataclass(frozen=True)
class _Check:
    domain: Domain
    brief: Brief
    figure: Figure
    seen: Seen

    @cached_property
    def screened_as(self) -> frozenset[str]:
        """The modality that screening found, which may know it by hints where no word names it."""
        figure = self.figure
        found = find_modality(figure.caption, figure.mentions, self.domain, article=figure.source.citation)
        return frozenset({found.name} if found else ())

    def opened(self, text: str) -> str:
        """`text` without an opening that speaks of the source; what follows it begins with a capital."""
        rest = self.brief.openings.cut_from_start(text)
        if rest == text:
            return text
        rest = _AFTER_OPENING.sub("", rest)
        return capitalised(rest) if rest else text

    def fault(self, question: str, answer: str) -> Drop | None:
        """What is wrong with an exchange, the first fault only."""
        both = f"{question}\n{answer}"
        if said := self.brief.refusals.found(answer.replace("’", "'")):
            return Drop(REFUSAL, _quote(said[0], answer))
        if said := self.brief.source_talk.found(both):
            return Drop(SOURCE_TALK, _quote(said[0], both))
        if token := _TEMPLATE_TOKEN.search(both):
            return Drop(TEMPLATE_TOKEN, token.group())
        for text in (question, answer):
            for reason, said_there in (*self._numbers(text), *self._modalities(text), *self._sides(text)):
                return Drop(reason, _quote(said_there, text))
        for reason, said_there in self._findings(question, answer):
            return Drop(reason, _quote(said_there, both))
        words = _long_words(answer) - _words_of_the_task(self.brief.system)
        if len(words) >= FEWEST_COMPARED and len(words & self.seen.words) < LEAST_SHARED * len(words):
            return Drop(ELSEWHERE, " ".join(answer.split())[:QUOTED])
        return None

    def _numbers(self, text: str) -> Iterator[tuple[str, str]]:
        for amount in self.brief.units.amounts(text):
            if amount.key not in self.seen.amounts:
                yield MEASUREMENT if amount.kind not in (None, "name") else NUMBER, amount.said

    def _modalities(self, text: str) -> Iterator[tuple[str, str]]:
        named = {name for *_, names in self.domain.modality_words.named(text) for name in names}
        for modality in self.domain.modalities:
            said = modality.found(text) if modality.name in named else []
            allowed = {modality.name}.union(*(group for group in self.brief.alike if modality.name in group))
            if said and not allowed & self.seen.modalities and not allowed & self.screened_as:
                yield MODALITY, said[0]

    def _sides(self, text: str) -> Iterator[tuple[str, str]]:
        sentences = split_sentences(text)
        for sides, known in zip(self.brief.sides, self.seen.sides, strict=True):
            for claim in sides_named(sentences, sides):
                fault = check_side(claim, known)
                if fault:
                    yield SIDE if fault == "absent" else OTHER_SIDE, claim.said

    def _findings(self, question: str, answer: str) -> Iterator[tuple[str, str]]:
        """An answer's findings must be affirmed or denied as in the text, and a question's at least named there.

        "Yes" and "No" to "is there ..." affirm and deny what the question names.
        """
        told = _YES_OR_NO.match(answer)
        for name, asked in assertions(split_sentences(question), self.brief.findings).items():
            said = (asked.affirmed or asked.denied)[0]
            if name not in self.seen.findings:
                yield FINDING, said
            elif told and _IS_THERE.match(question) and not self._holds(name, said, told["word"].lower() == "yes"):
                yield CONTRADICTION, f"{told['word']}, {said}"
        rest = answer[told.end() :] if told else answer
        for name, claimed in assertions(split_sentences(rest), self.brief.findings).items():
            claims = [(said, True) for said in claimed.affirmed] + [(said, False) for said in claimed.denied]
            for said, affirmed in claims:
                if name not in self.seen.findings:
                    yield FINDING, said
                elif not self._holds(name, said, affirmed):
                    yield CONTRADICTION, said

    def _holds(self, name: str, said: str, affirmed: bool) -> bool:
        known = self.seen.findings[name]
        return bool(known.affirmed) if affirmed else known.bears_out_denial(said)

    def points_back(self, question: str) -> bool:
        """Whether a question cannot be understood without what was said before it."""
        nouns = _PICTURE_NOUNS | {modality.noun.split()[-1].lower() for modality in self.domain.modalities}
        for match in _POINTS_BACK.finditer(question):
            thing = match["thing"]
            if thing is None or (thing.lower().removesuffix("s") not in nouns and thing.lower() not in nouns):
                return True
        return False


def _long_words(text: str) -> frozenset[str]:
    """The beginnings of the words of five letters and more, so that "enhances" and "enhancing" are one."""
    return frozenset(word[:5].lower() for word in _LONG_WORD.findall(text))


@lru_cache(maxsize=1)
def _words_of_the_task(system: str) -> frozenset[str]:
    return _long_words(system)


def _quote(said: str, text: str) -> str:
    return f"{said!r} in: {' '.join(text.split())}"[:QUOTED]
