"""What every benchmark reader returns, and the rules they share: no question is dropped without a name and a reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import IMAGE_MARKER, AnswerType, Fault, Question

Split = Literal["train", "test"]


KnownAnswer = tuple[AnswerType, str]
"""A training question's answer, with its type: what a guesser may know."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkRead:
    """A benchmark's questions of one split, in the file's order.

    faults: every question that cannot be asked, its picture missing or its record broken.
    notes: what the reader of a score should know about these data.
    """

    questions: tuple[Question, ...]
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    license: str | None = None
    citation: str | None = None


def require_folder(path: Path, what: str) -> Path:
    """Return `path` if it is a folder; otherwise raise UsageError naming `what` was expected there."""
    if path.is_dir():
        return path
    state = "is not a folder" if path.exists() else "does not exist"
    raise UsageError(f"{what} {state}", where=str(path), hint="Check the path, or give it with --images.")


def find_picture(images: Path, name: Any) -> Path:
    """The file that a record names, inside `images`. Raises DataError if it is absent, or lies outside."""
    if not isinstance(name, str) or not name.strip():
        raise DataError("names no picture")
    path = images / name.strip()
    if not path.resolve().is_relative_to(images.resolve()):
        raise DataError(f"picture {name!r} lies outside {images}")
    if not path.is_file():
        raise DataError(f"picture {name} is not in {images}")
    return path


def clean_text(value: Any, what: str) -> str:
    """A record's text with its white space collapsed; numbers become text. Raises DataError if there is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DataError(f"{what} must be text, found {type(value).__name__}")
    text = " ".join(str(value).split())
    if not text:
        raise DataError(f"empty {what}")
    return text


def clean_question(value: Any) -> str:
    """A question's text without picture markers: where the picture stands in a prompt is not the benchmark's to say."""
    return clean_text(value.replace(IMAGE_MARKER, " ") if isinstance(value, str) else value, "question")


def parse_answer_type(value: Any) -> AnswerType:
    """OPEN or CLOSED in any case, with stray blanks. Raises DataError on anything else."""
    name = value.strip().lower() if isinstance(value, str) else value
    if name == "open":
        return "open"
    if name == "closed":
        return "closed"
    raise DataError(f"answer_type must be OPEN or CLOSED, found {value!r}")
