"""One answerer's answers to a benchmark, each scored both ways; kept as columns, so that half a million fit anywhere.

A question costs 8 bytes a metric beside its own record: a `Scored` is made when it is looked at. Pairs of answer and
reference repeat, and a repeated one is scored once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, overload

from llavamed_cli.evaluation.scoring import reference, strict
from llavamed_cli.evaluation.scoring.candidates import Candidates
from llavamed_cli.records import Answer, AnswerType, Question

if TYPE_CHECKING:
    import numpy

PAIRS_KEPT = 16_384
KINDS: tuple[AnswerType, ...] = ("open", "closed")
RIGHT = "strict.accuracy"
"""The score that every question has."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One question, its answer, and its scores in percent under both score sets."""

    question: Question
    answer: Answer
    reference: Mapping[str, float]
    strict: Mapping[str, float]

    @property
    def right(self) -> bool:
        """Whether the strict score takes the answer for right."""
        return self.strict["accuracy"] == 100


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredAnswers(Sequence[Scored]):
    """Every question with its answer and scores.

    answers: in the questions' order; an empty one stands for an absent one.
    absent: questions without an answer, wrong under both score sets.
    tables: of the open and of the closed questions, [questions of that type, metrics], in percent.
    metrics: the names of a table's columns, "reference.recall" and so on.
    places: where each question stands in its type's table. is_open: which type that is.
    """

    questions: Sequence[Question]
    answers: Sequence[Answer]
    absent: int
    tables: Mapping[AnswerType, numpy.ndarray]
    metrics: Mapping[AnswerType, tuple[str, ...]]
    places: numpy.ndarray
    is_open: numpy.ndarray

    def __len__(self) -> int:
        return len(self.questions)

    @overload
    def __getitem__(self, place: int) -> Scored: ...
    @overload
    def __getitem__(self, place: slice) -> list[Scored]: ...
    def __getitem__(self, place: int | slice) -> Scored | list[Scored]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        question = self.questions[place]
        row = self.tables[question.answer_type][self.places[place]].tolist()
        sets: dict[str, dict[str, float]] = {"reference": {}, "strict": {}}
        for name, value in zip(self.metrics[question.answer_type], row, strict=True):
            score_set, metric = name.split(".")
            sets[score_set][metric] = value
        return Scored(question=question, answer=self.answers[place], **sets)

    @cached_property
    def right(self) -> numpy.ndarray:
        """The strict accuracy of every question, 0 or 100: [questions]."""
        import numpy as np

        accuracy = np.empty(len(self))
        for kind in KINDS:
            rows = self.is_open == (kind == "open")
            accuracy[rows] = self.column(kind, RIGHT)[self.places[rows]]
        return accuracy

    @cached_property
    def pictures(self) -> numpy.ndarray:
        """A number for each question's picture, in the order of the pictures' names: [questions]."""
        import numpy as np

        numbers = {name: number for number, name in enumerate(sorted({one.image for one in self.questions}))}
        return np.fromiter((numbers[one.image] for one in self.questions), dtype=np.int64, count=len(self))

    def column(self, kind: AnswerType, name: str) -> numpy.ndarray:
        """One metric of all questions of a type."""
        column: numpy.ndarray = self.tables[kind][:, self.metrics[kind].index(name)]
        return column


def score_answers(
    questions: Sequence[Question], answers: Mapping[str, Answer], candidates: Sequence[str] = ()
) -> ScoredAnswers:
    """Score every question's answer.

    Args:
        answers: by question id. A question without one is wrong.
        candidates: open training answers, normalised: see `reference.score_open`.
    """
    import numpy as np

    known = Candidates(candidates) if candidates else None

    @lru_cache(maxsize=PAIRS_KEPT)
    def rate(kind: AnswerType, said: str, right: str, choices: tuple[str, ...]) -> tuple[float, ...]:
        published, own = _both(kind, said, right, known, choices)
        return (*published.values(), *own.values())

    metrics = {kind: _metric_names(kind, known) for kind in KINDS}
    is_open = np.fromiter((one.answer_type == "open" for one in questions), dtype=bool, count=len(questions))
    counts = {"open": int(is_open.sum()), "closed": int((~is_open).sum())}
    tables = {kind: np.zeros((counts[kind], len(metrics[kind])), order="F") for kind in KINDS}
    places = np.where(is_open, np.cumsum(is_open), np.cumsum(~is_open)) - 1
    given: list[Answer] = []
    absent = 0
    for question, place in zip(questions, places, strict=True):
        answer = answers.get(question.id)
        if answer is None:
            absent += 1
        else:
            scores = rate(question.answer_type, answer.text, question.answer, question.choices)
            tables[question.answer_type][place] = scores
        given.append(answer or Answer(question_id=question.id, text=""))
    return ScoredAnswers(
        questions=questions,
        answers=given,
        absent=absent,
        tables=tables,
        metrics=metrics,
        places=places,
        is_open=is_open,
    )


def _both(
    kind: AnswerType, said: str, right: str, candidates: Candidates | None, choices: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    if kind == "open":
        return reference.score_open(said, right, candidates), strict.score_open(said, right)
    return reference.score_closed(said, right), strict.score_closed(said, right, choices)


def _metric_names(kind: AnswerType, candidates: Candidates | None) -> tuple[str, ...]:
    published, own = _both(kind, "", "", candidates, ())
    return (*(f"reference.{name}" for name in published), *(f"strict.{name}" for name in own))
