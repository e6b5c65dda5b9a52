"""The most frequent training answer of a question's type, whatever is asked: what a score must beat to count."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from llavamed_cli.benchmarks.reading import KnownAnswer
from llavamed_cli.errors import UsageError
from llavamed_cli.evaluation.scoring.strict import words
from llavamed_cli.records import Answer, AnswerType, Question


class Majority:
    """Knows the training answers, and that a question is open or closed; sees neither question nor picture."""

    def __init__(self, known: Sequence[KnownAnswer]) -> None:
        if not known:
            raise UsageError(
                "majority needs training answers, and this benchmark's file holds none",
                hint="Give the training questions, in the same form, with --train FILE.",
            )
        self._best = _most_frequent(known)
        self.decoding = "always " + ", ".join(f"{text!r} on {kind}" for kind, text in sorted(self._best.items()))

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """One batch."""
        return [tuple(questions)]

    def prompt(self, question: Question) -> str:
        """The question."""
        return question.text

    def answer(self, batch: Sequence[Question]) -> list[Answer]:
        """The same answer to every question of a type; nothing on a type that training had not."""
        return [Answer(question_id=question.id, text=self._best.get(question.answer_type, "")) for question in batch]


def _most_frequent(known: Sequence[KnownAnswer]) -> dict[AnswerType, str]:
    """By answer type; spellings count as one if their words are the same, ties go to the alphabet's first."""
    spellings: dict[AnswerType, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for kind, text in known:
        spellings[kind][" ".join(words(text))][text] += 1
    best: dict[AnswerType, str] = {}
    for kind, groups in spellings.items():
        _, spelled = min(groups.items(), key=lambda group: (-group[1].total(), group[0]))
        best[kind] = min(spelled.items(), key=lambda item: (-item[1], item[0]))[0]
    return best
