"""What every benchmark reader returns, and the rules they share: no question is dropped without a name and a reason."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import IMAGE_MARKER, AnswerType, Fault, Question

Split = Literal["train", "test"]

KnownAnswer = tuple[AnswerType, str]
"""A training question's answer, with its type: what a guesser may know."""

Record = Mapping[str, Any]

ANSWER_TYPES: Mapping[str, AnswerType] = {
    "open": "open",
    "closed": "closed",
    "yes/no": "closed",
    "other": "open",
    "number": "open",
}
"""As VQA-RAD, SLAKE and LLaVA-Med write it, and as PathVQA does, after VQA v2: yes/no, number, other."""

CLOSED_ANSWERS = ("yes", "no")
"""Where a record states no type, these answers make it closed."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkRead:
    """A benchmark's questions of one split, in the file's order.

    faults: every question that cannot be asked, its picture missing or its record broken.
    notes: what the reader of a score should know about these data.
    judged: answers are for a judge to compare (each question has its `figure`); a match of words means little.
    """

    questions: tuple[Question, ...]
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    license: str | None = None
    citation: str | None = None
    judged: bool = False


def gather(
    records: Iterable[tuple[str, Record]],
    named: Callable[[Record], str | None],
    parse: Callable[[Record, str], Question],
) -> tuple[tuple[Question, ...], list[Fault]]:
    """The questions of records, each id once, and a fault for every record that makes none.

    Args:
        records: with where each stands.
        named: a record's id, None if it has none.
        parse: of a record and its id; raises DataError.
    """
    questions: dict[str, Question] = {}
    faults: list[Fault] = []
    for where, record in records:
        identity = named(record)
        try:
            if identity is None:
                raise DataError("no `id`")
            if identity in questions:
                raise DataError(f"id {identity} occurs twice")
            questions[identity] = parse(record, identity)
        except DataError as error:
            faults.append(Fault(where=where, reason=error.what, record_id=identity))
    return tuple(questions.values()), faults


def text_id(value: Any) -> str | None:
    """An id as text: some files mix numbers and texts. None if it is neither."""
    return (str(value).strip() or None) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def answers_of(questions: Iterable[Question]) -> tuple[KnownAnswer, ...]:
    """What a guesser may know of training questions."""
    return tuple((question.answer_type, question.answer) for question in questions)


def require_folder(path: Path, what: str) -> Path:
    """Return `path` if it is a folder; otherwise raise UsageError naming `what` was expected there."""
    if path.is_dir():
        return path
    state = "is not a folder" if path.exists() else "does not exist"
    raise UsageError(f"{what} {state}", where=str(path), hint="Check the path, or give it with --images.")


def picture_name(value: Any) -> str:
    """The name under which a record names its picture. Raises DataError if it names none."""
    if not isinstance(value, str) or not value.strip():
        raise DataError("names no picture")
    return value.strip()


def picture_path(images: Path, name: str) -> Path:
    """Where a picture of that name would lie, inside `images`. Raises DataError if that is elsewhere.

    Links are followed, as the caches of hub clients need: a data file cannot make them.
    """
    path = Path(os.path.normpath(images / name))
    if "\0" in name or not path.is_relative_to(os.path.normpath(images)):
        raise DataError(f"picture {name!r} lies outside {images}")
    return path


def find_picture(images: Path | None, value: Any, endings: tuple[str, ...] = ("",)) -> Path:
    """The file that a record names, inside `images`.

    Args:
        images: None where pictures are not needed: the file is then not looked for.
        endings: what may have to be put behind the name.

    Raises:
        DataError: it is absent, or lies outside.
    """
    name = picture_name(value)
    if images is None:
        return Path(name)
    for ending in endings:
        path = picture_path(images, name + ending)
        if is_file(path):
            return path
    raise DataError(f"picture {name} is not in {images}")


def picture_paths(images: Path, names: Iterable[Any]) -> dict[str, Path]:
    """Where named pictures would lie; what names none, or one outside of `images`, is passed over."""
    paths = {}
    for name in names:
        try:
            paths[picture_name(name)] = picture_path(images, picture_name(name))
        except DataError:
            continue
    return paths


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name longer than the file system allows is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def clean_text(value: Any, what: str) -> str:
    """A record's text with its white space collapsed; numbers become text. Raises DataError if there is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DataError(f"{what} must be text, found {type(value).__name__}")
    text = " ".join(str(value).split())
    if not text:
        raise DataError(f"empty {what}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{what} holds half of a surrogate pair, which is no character") from error
    return text


def clean_question(value: Any) -> str:
    """A question's text without picture markers: where the picture stands in a prompt is not the benchmark's to say."""
    return clean_text(value.replace(IMAGE_MARKER, " ") if isinstance(value, str) else value, "question")


def optional_name(record: Record, key: str) -> str | None:
    """A field that may be left out, or empty. Raises DataError if it is no text."""
    value = record.get(key)
    return None if value is None or value == "" else clean_text(value, key)


def parse_answer_type(value: Any) -> AnswerType:
    """OPEN or CLOSED in any case, with stray blanks; also PathVQA's names. Raises DataError on anything else."""
    name = value.strip().lower() if isinstance(value, str) else value
    if isinstance(name, str) and name in ANSWER_TYPES:
        return ANSWER_TYPES[name]
    raise DataError(f"answer_type must be OPEN or CLOSED, found {value!r}")


def stated_answer_type(record: Record, answer: str) -> AnswerType:
    """The type that a record states; where it states none, an answer of yes or no is closed, any other open."""
    if not states_answer_type(record):
        return "closed" if answer.strip(" .!").lower() in CLOSED_ANSWERS else "open"
    return parse_answer_type(record["answer_type"])


def states_answer_type(record: Record) -> bool:
    """Whether a record says if its question is open or closed."""
    return record.get("answer_type") is not None
