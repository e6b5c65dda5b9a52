"""Any benchmark as JSON Lines: {"id", "image", "question", "answer"}, and what else is known about a question.

    {"id": "7", "image": "a.png", "question": "Is there a fracture?", "answer": "no", "answer_type": "closed",
     "question_type": "PRES", "modality": "X-ray", "organ": "CHEST", "language": "en"}

`answer_type` may be left out: an answer "yes" or "no" is then closed, any other open. `question_type` may be a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.reading import (
    BenchmarkRead,
    KnownAnswer,
    clean_question,
    clean_text,
    find_picture,
    parse_answer_type,
    require_folder,
)
from llavamed_cli.errors import DataError
from llavamed_cli.files import read_jsonl
from llavamed_cli.records import AnswerType, Fault, Question


def read_jsonl_benchmark(file: Path, images: Path) -> BenchmarkRead:
    """Read every question of `file`, whose pictures lie in `images`. Raises UsageError if either is absent."""
    require_folder(images, "folder of the benchmark's pictures")
    faults: list[Fault] = []
    questions: dict[str, Question] = {}
    inferred = 0
    for line, record in read_jsonl(file, faults.append):
        identity = str(record["id"]) if isinstance(record.get("id"), (str, int)) else None
        try:
            if identity is None:
                raise DataError("no `id`")
            if identity in questions:
                raise DataError(f"id {identity} occurs twice")
            questions[identity] = _question(record, identity, images)
            inferred += "answer_type" not in record
        except DataError as error:
            faults.append(Fault(where=f"{file}:{line}", reason=error.what, record_id=identity))
    notes = (
        (f"{inferred} questions state no answer_type: those answered yes or no count as closed.",) if inferred else ()
    )
    return BenchmarkRead(questions=tuple(questions.values()), faults=tuple(faults), notes=notes)


def jsonl_answers(file: Path) -> tuple[KnownAnswer, ...]:
    """The answers of a training file of this form, without its pictures. Raises DataError at the first broken line."""

    def refuse(fault: Fault) -> None:
        raise DataError(fault.reason, where=fault.where)

    known: list[KnownAnswer] = []
    for line, record in read_jsonl(file, refuse):
        try:
            known.append((_answer_type(record), clean_text(record.get("answer"), "answer")))
        except DataError as error:
            raise DataError(error.what, where=f"{file}:{line}") from error
    return tuple(known)


def _question(record: Mapping[str, Any], identity: str, images: Path) -> Question:
    return Question(
        id=identity,
        image=str(record.get("image")),
        picture=find_picture(images, record.get("image")),
        text=clean_question(record.get("question")),
        answer=clean_text(record.get("answer"), "answer"),
        answer_type=_answer_type(record),
        question_types=_question_types(record.get("question_type")),
        modality=_name(record, "modality"),
        organ=_name(record, "organ"),
        language=_name(record, "language") or "en",
    )


def _answer_type(record: Mapping[str, Any]) -> AnswerType:
    if "answer_type" in record:
        return parse_answer_type(record["answer_type"])
    answer = clean_text(record.get("answer"), "answer")
    return "closed" if answer.strip(" .!").lower() in ("yes", "no") else "open"


def _question_types(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    return tuple(sorted({name.strip() for name in names if isinstance(name, str) and name.strip()}))


def _name(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is None:
        return None
    return clean_text(value, key)
