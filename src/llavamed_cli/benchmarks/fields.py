"""Which field of a record is the question, the answer and the rest, however a data set calls them; and one question.

Read as JSON Lines, as Parquet and from the Hub alike. A field's name can be given: `?question=NAME&answer=NAME`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.reading import (
    Record,
    clean_question,
    clean_text,
    optional_name,
    stated_answer_type,
    text_id,
)
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import Question

NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "qid", "question_id", "Qid"),
    "image": ("image", "image_name", "img_name", "img_id", "image_path", "file_name", "img", "picture"),
    "question": ("question", "sent"),
    "answer": ("answer", "label"),
    "answer_type": ("answer_type",),
    "question_type": ("question_type", "content_type"),
    "modality": ("modality",),
    "organ": ("organ", "image_organ", "location"),
    "language": ("language", "q_lang", "lang"),
    "split": ("split",),
}
"""The names under which published files have each field, the best first."""
NEEDED = ("image", "question", "answer")


def parse_fields(text: str, where: str) -> dict[str, str]:
    """Read `question=NAME&answer=NAME`. Raises UsageError on anything else."""
    named = {}
    for part in text.split("&") if text else []:
        field, _, name = part.partition("=")
        if field not in NAMES or not name:
            near = get_close_matches(field, NAMES, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"expected FIELD=NAME, found {part!r}", where=where, hint=f"{meant}Fields are: {', '.join(NAMES)}."
            )
        named[field] = name
    return named


def choose_fields(columns: Collection[str], named: Mapping[str, str], where: str) -> dict[str, str]:
    """The column that holds each field.

    Raises:
        UsageError: a named column is not there, or none holds a picture, a question or an answer.
    """
    chosen = {}
    listed = ", ".join(columns)
    for field, known in NAMES.items():
        if field in named and named[field] not in columns:
            raise UsageError(f"there is no column {named[field]!r}; there are: {listed}", where=where)
        column = named.get(field) or next((name for name in known if name in columns), None)
        if column is not None:
            chosen[field] = column
        elif field in NEEDED:
            raise UsageError(
                f"no column looks like the {field}; there are: {listed}",
                where=where,
                hint=f"Name it: add ?{field}=COLUMN.",
            )
    return chosen


def canonical(record: Record, named: Mapping[str, str]) -> dict[str, Any]:
    """A record's known fields under their best names."""
    found = {}
    for field, known in NAMES.items():
        key = named.get(field) or next((name for name in known if name in record), None)
        if key is not None and key in record:
            found[field] = record[key]
    return found


def make_question(
    record: Record, identity: str, image: str, picture: Path, *, part: str, extra_types: tuple[str, ...] = ()
) -> Question:
    """A question of a canonical record. Raises DataError with the rule it breaks."""
    answer = answer_text(record.get("answer"))
    return Question(
        id=identity,
        image=image,
        picture=picture,
        text=clean_question(record.get("question")),
        answer=answer,
        answer_type=stated_answer_type(record, answer),
        question_types=tuple(sorted({*_types(record.get("question_type")), *extra_types})),
        modality=optional_name(record, "modality"),
        organ=optional_name(record, "organ"),
        language=optional_name(record, "language") or "en",
        split=part,
    )


def answer_text(value: Any) -> str:
    """An answer as text; of answers with weights ({"liver": 1.0}, as VQA v2's tools write them) the weightiest."""
    if isinstance(value, dict):
        weights = {text: weight for text, weight in value.items() if isinstance(weight, (int, float))}
        if not weights:
            raise DataError("answer has no weighted text")
        value = max(weights, key=lambda text: weights[text])
    return clean_text(value, "answer")


def identity_of(record: Record) -> str | None:
    """A canonical record's id, if it has one."""
    return text_id(record.get("id"))


def _types(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    return tuple(name.strip() for name in names if isinstance(name, str) and name.strip())
