"""What an answerer is, and how one is named on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Protocol

from llavamed_cli.errors import UsageError
from llavamed_cli.files import require_file
from llavamed_cli.records import Answer, Question

HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
FORMS = "a model folder or hub name, blind:MODEL, majority, or answers:FILE"


class Answerer(Protocol):
    """Answers questions batch by batch. The batches depend on the questions alone, so a resumed run repeats them."""

    decoding: str
    """How answers come about, in words, for the report."""

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """Every question in exactly one batch, in the order in which they are best asked."""

    def prompt(self, question: Question) -> str:
        """What is asked, verbatim."""

    def answer(self, batch: Sequence[Question]) -> list[Answer]:
        """One answer a question, in order."""


@dataclass(frozen=True, kw_only=True)
class Who:
    """An answerer as typed. target: the model's folder or name, or the file of answers."""

    text: str
    kind: Literal["model", "blind", "majority", "answers"]
    target: str = ""

    @property
    def model(self) -> str | None:
        """The model that this answerer needs, if it needs one."""
        return self.target if self.kind in ("model", "blind") else None


def parse_who(text: str) -> Who:
    """Read WHO. Raises UsageError if it names no answerer, or what it names does not exist."""
    if text == "majority":
        return Who(text=text, kind="majority")
    head, colon, rest = text.partition(":")
    if colon and head == "answers":
        require_file(Path(rest), "file of answers")
        return Who(text=text, kind="answers", target=rest)
    if colon and head == "blind":
        return Who(text=text, kind="blind", target=_require_model(rest))
    return Who(text=text, kind="model", target=_require_model(text))


def _require_model(name: str) -> str:
    """The name, if it is a folder with a model or may be one on the hub; a wrong one should fail before work starts."""
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file() or (not folder.exists() and HUB_NAME.fullmatch(name)):
        return name
    if folder.exists():
        raise UsageError("no model here: expected a folder with config.json", where=name)
    near = get_close_matches(name.partition(":")[0], ("majority", "blind", "answers"), n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(f"no such model folder or answerer: {name!r}", hint=f"{meant}Expected {FORMS}.")
