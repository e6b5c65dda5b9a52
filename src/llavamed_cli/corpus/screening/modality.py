"""Which modality a picture is of, by the domain's words in its caption and mentions, with the words as evidence.

A caption is heard sentence by sentence: a word beside talk of charts or statistics ("quantification of the CT data")
hardly speaks for a picture. Mentions and the article's title are asked only where the caption names nothing. A figure
may be of none: a chart, a scheme, a photograph of a person. Nothing is learned from data;
tests/benchmarks/screening_accuracy.py measures it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llavamed_cli.corpus.domain import Domain, Modality
from llavamed_cli.corpus.sentences import split_sentences

BESIDE_A_CHART, BESIDE_STATISTICS, BESIDE_A_STATISTIC = 0.3, 0.6, 0.7
"""What a word that names a modality counts in a sentence with words for charts, with several for statistics, or with
one, which may be a count or look like another word; else 1."""
HINT, MOST_HINTS = 0.4, 3
"""What each word counts that only speaks for a modality, each once in a caption, and how many count."""
STEM = 5
"""Hints that begin with the same letters are one: "stained" and "staining"."""
MENTIONED = 0.5
"""What it counts that mentions or the article's title name a modality, beside a hint in the caption."""
FITS, MOST_FITS = 0.2, 2
"""What each word counts that fits a picture of the modality that mentions or the title name, and how many count; where
a caption tells of charts or statistics, none does."""
ENOUGH, ENOUGH_BESIDE_A_CHART = 0.7, 1.0
"""Below this, a figure is of no modality: a word that names it is enough, or two hints; beside a chart, three."""

_GLOSSARY = re.compile(
    r"(?:(?:^|(?<=[;.,:]\s))(?:and\s)?[A-Z][\w/+-]{0,9}(?:[,:]|\s?=)\s[a-zA-Z][^;,=.]{2,60}(?:[;,.]\s?|$)){2,}"
)
"""Abbreviations told one after the other: "CT, computed tomography; RV, right ventricle"."""
_INDICATES = re.compile(r"\b(?P<first>[A-Z])[\w/+-]{0,8}[A-Z\d]\sindicates\s(?=(?i:(?P=first)))[^.]{2,400}(?:\.|$)")
"""The same as some journals have it: "MRI indicates magnetic resonance imaging; CT, computed tomography."."""
_GROUND = re.compile(
    r"\b(?:superimposed|superposed|overlaid|overlayed|overlain|projected|rendered|displayed|co-?registered)"
    r"\s(?:on|onto|upon|over|to|with)(?:\s[\w*/-]{1,30}){1,8}",
    re.I,
)
"""What something else is laid over: "overlaid on a T1-weighted template"."""
_SHORT, _LONG = r"(?P<short>[A-Z][A-Za-z]{1,5})", r"(?P<long>[A-Za-z][\w-]{0,30}(?:\s[\w-]{1,30}){1,4})"
_SPELT_OUT = (
    re.compile(rf"(?<![\w-]){_LONG}\s\({_SHORT}\)"),  # "cytoplasmic tail (CT)"
    re.compile(rf"\b{_SHORT}(?:[,:]|\s?=)\s{_LONG}"),  # "CT, cytoplasmic tail"
)
_FIGURE_NUMBERS = re.compile(r"\bfig(?:ure)?s?\.?\s*(\d+)[a-z]{0,2}(?:\s*(?:[,&–-]|and|to)\s*(\d+))?", re.I)


@dataclass(frozen=True)
class ModalityFound:
    """name: as the domain has it. evidence: the words that say so.

    clear: the caption itself names this modality and no other, and no chart, which may be about pictures without being
    one. What only hints or mentions tell is likely, not clear.
    """

    name: str
    evidence: tuple[str, ...]
    clear: bool


@dataclass(frozen=True)
class _Vote:
    """named: what the words weigh that name the modality, of `weight`."""

    weight: float = 0.0
    named: float = 0.0
    words: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def find_modality(
    caption: str, mentions: Sequence[str], domain: Domain, *, article: str | None = None
) -> ModalityFound | None:
    """The modality that most words speak for; of equals, the domain's first. None if too little does.

    Args:
        article: what is known of the article, its title and journal.
    """
    told = _without_other_meanings(without_abbreviations(caption), caption, domain)
    named = {modality.name for modality in domain.modalities if modality.found(told)}
    drawn = domain.words["chart"].count(told) > 0
    enough = ENOUGH_BESIDE_A_CHART if drawn else ENOUGH
    votes = _heard(_GROUND.sub(" ", told), domain)
    name = _winner(votes, enough)
    if name is None:
        votes = _heard(told, domain)
        name = _winner(votes, enough)
    if name is None and not drawn:
        votes = _heard(_without_other_meanings(caption, caption, domain), domain)
        name = _winner(votes)
    if name is None or not votes[name].words:
        plain = not drawn and not domain.words["statistics"].count(told)
        fitting = told if plain else ""
        spoken = _heard(" ".join(filter(_of_one_figure, mentions)), domain, with_hints=False)
        around = [_with_context(votes, spoken, fitting, domain)]
        if name is None:
            entitled = _heard(article or "", domain, with_hints=False)
            around += [spoken] if plain else []
            around += [_with_context(votes, entitled, fitting, domain)]
        votes = next((heard for heard in around if _winner(heard, enough)), {})
        name = _winner(votes, enough)
    if name is None:
        return None
    evidence = dict.fromkeys([*votes[name].words, *votes[name].hints])
    return ModalityFound(name, tuple(evidence), clear=named == {name} and not drawn)


def _with_context(
    votes: Mapping[str, _Vote], around: Mapping[str, _Vote], fitting: str, domain: Domain
) -> dict[str, _Vote]:
    """`votes` of a caption that names no modality, with what `around` it names, if anything in it hints at that.

    fitting: the part of the caption in which words that fit the modality are as good as hints.
    """
    both = dict(votes)
    for modality in domain.modalities:
        if modality.name in around:
            said, vote = around[modality.name], votes.get(modality.name, _Vote())
            fits = tuple({word.lower(): word for word in modality.fits.found(fitting)}.values())
            if vote.weight or fits:
                both[modality.name] = replace(
                    vote,
                    weight=vote.weight + MENTIONED + FITS * min(len(fits), MOST_FITS),
                    words=vote.words + said.words,
                    hints=vote.hints + said.hints + fits,
                )
    return both


def without_abbreviations(caption: str) -> str:
    """`caption` without the abbreviations that it spells out: they may speak of what is not in the picture."""
    return _INDICATES.sub(" ", _GLOSSARY.sub(" ", caption))


def _without_other_meanings(text: str, caption: str, domain: Domain) -> str:
    """`text` without the abbreviations that look like a modality's and that `caption` spells out as something else."""
    spelt = [(match["short"], match["long"]) for way in _SPELT_OUT for match in way.finditer(caption)]
    for short, long in spelt:
        words = re.split(r"[\s-]+", long)[-len(short) :]
        if "".join(word[:1] for word in words).lower() == short.lower() and any(
            modality.found(short) and not modality.found(long) for modality in domain.modalities
        ):
            text = re.sub(rf"\b{short}\b", " ", text)
    return text


def _winner(votes: Mapping[str, _Vote], enough: float = ENOUGH) -> str | None:
    """The heaviest; one that is named enough before any that is only hinted at."""
    best = max(votes, key=lambda name: (votes[name].named >= enough, votes[name].weight), default=None)
    return best if best is not None and votes[best].weight >= enough else None


def _heard(text: str, domain: Domain, *, with_hints: bool = True) -> dict[str, _Vote]:
    """What speaks for each modality of the domain that anything speaks for."""
    sentences = [(sentence, _weight(sentence, domain)) for sentence in split_sentences(text)]
    plain = " ".join(sentence for sentence, weight in sentences if weight > BESIDE_A_CHART) if with_hints else ""
    votes = {modality.name: _vote(modality, sentences, plain) for modality in domain.modalities}
    return {name: vote for name, vote in votes.items() if vote.weight}


def _vote(modality: Modality, sentences: Sequence[tuple[str, float]], plain: str) -> _Vote:
    hints = tuple({hint.lower()[:STEM]: hint for hint in modality.hinted(plain)}.values())
    named = 0.0
    words: list[str] = []
    for sentence, share in sentences:
        found = modality.found(sentence)
        several = len(set(found)) if share > BESIDE_A_CHART else bool(found)  # on a chart, one word is as good as many
        named += share * several
        words.extend(found)
    return _Vote(named + HINT * min(len(hints), MOST_HINTS), named, tuple(words), hints)


def _weight(sentence: str, domain: Domain) -> float:
    if domain.words["chart"].count(sentence):
        return BESIDE_A_CHART
    statistics = {word.lower() for word in domain.words["statistics"].found(sentence)}
    return (1.0, BESIDE_A_STATISTIC, BESIDE_STATISTICS)[min(len(statistics), 2)]


def _of_one_figure(mention: str) -> bool:
    numbers = {number for found in _FIGURE_NUMBERS.findall(mention) for number in found if number}
    return len(numbers) < 2
