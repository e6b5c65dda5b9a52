"""A CLIP chooses among the closed answers: the one that, said after the question, fits the picture best (zero-shot).

A CLIP cannot write, so open questions have no answer and count as wrong. It matches words with pictures and does not
reason: negations and counts are known to be beyond it, and a yes or no is close to a coin toss for most.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from llavamed_cli.evaluation.answerers.answerer import by_picture
from llavamed_cli.records import Answer, Question

if TYPE_CHECKING:
    from llavamed_cli.model.clip import Clip

YES_OR_NO = ("yes", "no")
ASKS_YES_OR_NO = re.compile(
    r"(is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|should|may|might|must)\b(?!.*\bor\b)", re.DOTALL
)
"""The beginning of an English question that yes or no answers; one that offers a choice ("... or ...") is none."""
MOST_CHOICES = 100


class ClipChoice:
    """Chooses among a question's own choices, yes and no, or the benchmark's closed answers.

    Args:
        load: opens the CLIP when the first question is asked.
        closed_answers: those of the training questions, the most frequent first.
    """

    def __init__(self, load: Callable[[], Clip], closed_answers: Sequence[str]) -> None:
        self._load = load
        self._closed = tuple(dict.fromkeys(text.strip().lower() for text in closed_answers))[:MOST_CHOICES]
        self.decoding = "CLIP, zero-shot among closed answers, each said after the question; open questions unanswered"

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """A picture's questions together."""
        return by_picture(questions)

    def prompt(self, question: Question) -> str:
        """The texts that are compared with the picture, one a line; nothing for an open question."""
        return "\n".join(self._texts(question))

    def answer(self, batch: Sequence[Question]) -> list[Answer | None]:
        """The best of the choices, its share of them as confidence."""
        if all(question.answer_type == "open" for question in batch):
            return [None] * len(batch)
        from llavamed_cli.model.images import open_picture

        picture = self._clip.pictures([open_picture(batch[0].picture)])
        answers: list[Answer | None] = []
        for question in batch:
            texts = self._texts(question)
            if not texts:
                answers.append(None)
                continue
            (shares,) = self._clip.shares(picture, self._clip.texts(texts)[0]).tolist()
            best = max(range(len(shares)), key=shares.__getitem__)
            said = self._choices(question)[best]
            answers.append(Answer(question_id=question.id, text=said, confidence=shares[best]))
        return answers

    def _texts(self, question: Question) -> list[str]:
        return [f"{question.text} {choice}" for choice in self._choices(question)]

    def _choices(self, question: Question) -> Sequence[str]:
        """What may be said; chosen by the question's words and never by its reference answer."""
        if question.answer_type == "open":
            return ()
        if question.choices:
            return question.choices
        if ASKS_YES_OR_NO.match(question.text.strip().lower()) or not self._closed:
            return YES_OR_NO
        return self._closed

    @cached_property
    def _clip(self) -> Clip:
        return self._load()
