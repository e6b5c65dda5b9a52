"""Which answers the report shows: the worst and the best of the first answerer, and open answers side by side.

Worst is what was wrong and most sure of itself; where nobody says how sure they are, closed answers go by their
question's id, and open ones by how few words they share with the reference. One question a picture.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llavamed_cli.errors import PictureError
from llavamed_cli.evaluation.answerers.answerer import Answerer
from llavamed_cli.evaluation.scores import Scored, ScoredAnswers
from llavamed_cli.records import Question
from llavamed_cli.report_page import data_uri

CARDS = 6
"""Of the worst and of the best answers, each: half of them open."""
SIDE_BY_SIDE = 12
LONGEST = {True: 300, False: 800}
"""Letters of an answer that are shown, beside a picture and without one."""
UNSEEN = ("Cc", "Cf", "Cs")
"""Unicode's categories of what has no shape: controls, marks that turn the direction of writing, half characters."""
JOINERS = "\u200c\u200d"
"""Needed to write Persian, Hindi and others."""
Results = Mapping[str, ScoredAnswers]
"""Answerer -> every question scored, all over the same questions in the same order."""


@dataclass(frozen=True)
class Said:
    """What someone answered. f1: of an open answer, in percent."""

    who: str
    text: str
    cut: int
    confidence: float | None
    right: bool
    f1: float | None


@dataclass(frozen=True)
class Card:
    """A question with its picture and what everyone said. picture: a data address; None if it opens no more."""

    question: Question
    prompt: str
    picture: str | None
    said: tuple[Said, ...]

    @property
    def types(self) -> str:
        """ "closed, PRES"."""
        return ", ".join((self.question.answer_type, *self.question.question_types))


def worst_and_best(results: Results, answerers: Mapping[str, Answerer]) -> list[tuple[str, list[Card]]]:
    """A title, and the cards under it, of the worst and of the best answers of the first answerer."""
    leading = next(iter(results.values()))
    sure = any(answer.confidence is not None for answer in leading.answers)
    ranked = _worst_first(leading)
    chosen = {
        f"Wrong{', and most sure of it' if sure else ''}": [p for p in ranked if leading.right[p] != 100],
        f"Right{', and most sure of it' if sure else ''}": [p for p in reversed(ranked) if leading.right[p] == 100],
    }
    if sure:
        chosen = {
            title: sorted(places, key=lambda place: -(leading.answers[place].confidence or 0))
            for title, places in chosen.items()
        }
    return [
        (title, [_card(place, results, answerers) for place in _one_a_picture(places, leading)])
        for title, places in chosen.items()
        if places
    ]


def open_side_by_side(results: Results, answerers: Mapping[str, Answerer]) -> list[Card]:
    """Open questions on which the answerers' F1 differ most; of one answerer alone, an even sample. No pictures."""
    import numpy as np

    leading = next(iter(results.values()))
    places = np.flatnonzero(leading.is_open)
    if not len(places):
        return []
    if len(results) == 1:
        chosen = places[np.unique(np.linspace(0, len(places) - 1, SIDE_BY_SIDE).round().astype(int))]
    else:
        scores = np.stack([scored.column("open", "strict.f1") for scored in results.values()])
        spread = scores.max(axis=0) - scores.min(axis=0)
        order = places[np.argsort(-spread, kind="stable")]
        _, firsts = np.unique(leading.pictures[order], return_index=True)
        chosen = order[np.sort(firsts)][:SIDE_BY_SIDE]
    return [_card(int(place), results, answerers, pictured=False) for place in chosen]


def _worst_first(scored: ScoredAnswers) -> list[int]:
    """Places by F1 where the question is open, then by the question's id."""
    import numpy as np

    f1 = np.zeros(len(scored))
    f1[scored.is_open] = scored.column("open", "strict.f1")
    return sorted(range(len(scored)), key=lambda place: (f1[place], scored.questions[place].id))


def _one_a_picture(places: Iterable[int], scored: ScoredAnswers) -> list[int]:
    """The first of each picture, half of them open where there are both."""
    seen: set[str] = set()
    kinds: dict[str, list[int]] = {"open": [], "closed": []}
    for place in places:
        question = scored.questions[place]
        kind = kinds[question.answer_type]
        if question.image not in seen and len(kind) < CARDS:
            seen.add(question.image)
            kind.append(place)
    half = CARDS // 2
    lacking_open = max(0, half - len(kinds["open"]))
    lacking_closed = max(0, half - len(kinds["closed"]))
    return [*kinds["open"][: half + lacking_closed], *kinds["closed"][: half + lacking_open]]


def _card(place: int, results: Results, answerers: Mapping[str, Answerer], *, pictured: bool = True) -> Card:
    leading = next(iter(results))
    question = results[leading].questions[place]
    return Card(
        question=question,
        prompt=visible(answerers[leading].prompt(question)),
        picture=_picture(question) if pictured else None,
        said=tuple(_said(who, scored[place], LONGEST[pictured]) for who, scored in results.items()),
    )


def visible(text: str) -> str:
    """The text with what cannot be seen in it written out, "[U+202E]", so that no answer looks like another one."""
    return "".join(
        letter if letter in "\n\t" + JOINERS or unicodedata.category(letter) not in UNSEEN else f"[U+{ord(letter):04X}]"
        for letter in text
    )


def _said(who: str, one: Scored, longest: int) -> Said:
    text = one.answer.text
    return Said(
        who=who,
        text=visible(text[:longest]),
        cut=max(0, len(text) - longest),
        confidence=one.answer.confidence,
        right=one.right,
        f1=one.strict.get("f1") if one.question.answer_type == "open" else None,
    )


def _picture(question: Question) -> str | None:
    from llavamed_cli.model.images import open_picture

    try:
        return data_uri(open_picture(question.picture))
    except (PictureError, OSError):
        return None
