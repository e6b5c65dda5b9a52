"""Answers that someone else produced, in LLaVA's form: {"question_id", "text"} a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from llavamed_cli.errors import DataError
from llavamed_cli.files import read_jsonl
from llavamed_cli.progress import Progress
from llavamed_cli.records import Answer, Fault, Question

IDS_NAMED = 10


class AnswersFile:
    """Looks answers up by question id.

    Args:
        missing: what an absent answer means: "error" refuses the file, "skip" counts it as wrong.

    Raises:
        DataError: a line is broken, an id is answered twice, or questions have no answer.
    """

    def __init__(
        self, file: Path, questions: Sequence[Question], missing: Literal["error", "skip"], progress: Progress
    ) -> None:
        self._answers = _read(file)
        self.decoding = f"read from {file.name}"
        asked = {question.id: question for question in questions}
        surplus = [identity for identity in self._answers if identity not in asked]
        if surplus:
            progress.note(f"{file}: {len(surplus)} answer(s) to questions that are not asked: {_named(surplus)}")
        absent = [identity for identity in asked if identity not in self._answers]
        if absent and missing == "error":
            raise DataError(
                f"{len(absent)} of {len(asked)} questions have no answer: {_named(absent)}",
                where=str(file),
                hint="Complete the file, or count absent answers as wrong with --missing skip.",
            )
        if absent:
            progress.note(f"{file}: {len(absent)} question(s) without an answer count as wrong: {_named(absent)}")

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """One batch."""
        return [tuple(questions)]

    def prompt(self, question: Question) -> str:
        """The question; what was really asked is not known here."""
        return question.text

    def answer(self, batch: Sequence[Question]) -> list[Answer | None]:
        """The file's answer, None where it has none."""
        return [self._answers.get(question.id) for question in batch]


def _read(file: Path) -> dict[str, Answer]:
    def refuse(fault: Fault) -> None:
        raise DataError(fault.reason, where=fault.where)

    answers: dict[str, Answer] = {}
    lines: dict[str, int] = {}
    for line, record in read_jsonl(file, refuse):
        where = f"{file}:{line}"
        identity, text = record.get("question_id"), record.get("text")
        if not isinstance(identity, (str, int)) or not isinstance(text, str):
            raise DataError("expected `question_id` and `text`", where=where)
        name = str(identity)
        if name in lines:
            raise DataError(f"question {name} is answered twice, first in line {lines[name]}", where=where)
        confidence = record.get("confidence")
        sure = float(confidence) if isinstance(confidence, (int, float)) else None
        answers[name] = Answer(question_id=name, text=text, confidence=sure)
        lines[name] = line
    return answers


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - IDS_NAMED} more" if len(ids) > IDS_NAMED else ""
    return ", ".join(ids[:IDS_NAMED]) + more
