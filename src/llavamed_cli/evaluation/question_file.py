"""OUT/questions/BENCHMARK.jsonl: what was asked, with the reference answers, so that a finished folder stands alone.

One question a line, in the form that `--on FILE.jsonl` reads: a later run may ask exactly these. Two finished folders
are compared by it (`llavamed eval compare`).

    {"id", "image", "question", "answer", "answer_type", "question_type": [...], "modality", "organ", "phrasing",
     "language", "choices": [...]}      what is not known is left out
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llavamed_cli.errors import DataError
from llavamed_cli.files import read_jsonl, write_jsonl
from llavamed_cli.records import Fault, Question

FOLDER = "questions"


def write_questions(out: Path, title: str, questions: Sequence[Question]) -> None:
    """Write one benchmark's questions."""
    write_jsonl(out / FOLDER / f"{title}.jsonl", (_record(question) for question in questions))


def read_written_questions(out: Path, title: str) -> list[Question]:
    """The questions of one benchmark of a finished run; their pictures are not looked for.

    Raises:
        DataError: the file is absent or damaged.
    """
    file = out / FOLDER / f"{title}.jsonl"
    if not file.is_file():
        raise DataError("the folder does not say what was asked", where=str(file), hint="Evaluate anew.")

    def refuse(fault: Fault) -> None:
        raise DataError(fault.reason, where=fault.where)

    return [_question(record, f"{file}:{line}") for line, record in read_jsonl(file, refuse)]


def _record(question: Question) -> dict[str, Any]:
    known = {
        "question_type": list(question.question_types),
        "modality": question.modality,
        "organ": question.organ,
        "phrasing": question.phrasing,
        "choices": list(question.choices),
    }
    return {
        "id": question.id,
        "image": question.image,
        "question": question.text,
        "answer": question.answer,
        "answer_type": question.answer_type,
        "language": question.language,
        **{name: value for name, value in known.items() if value},
    }


def _question(record: dict[str, Any], where: str) -> Question:
    try:
        if record["answer_type"] not in ("open", "closed"):
            raise TypeError
        return Question(
            id=_text(record["id"]),
            image=_text(record["image"]),
            picture=Path(record["image"]),
            text=_text(record["question"]),
            answer=_text(record["answer"]),
            answer_type=record["answer_type"],
            question_types=tuple(map(_text, record.get("question_type", ()))),
            modality=record.get("modality"),
            organ=record.get("organ"),
            phrasing=record.get("phrasing"),
            language=record.get("language", "en"),
            choices=tuple(map(_text, record.get("choices", ()))),
        )
    except (KeyError, TypeError) as error:
        raise DataError("this is no question as eval writes it", where=where, hint="Evaluate anew.") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
