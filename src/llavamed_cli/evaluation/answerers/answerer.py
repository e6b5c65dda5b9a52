"""What an answerer is, and how one is named on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from llavamed_cli.errors import UsageError
from llavamed_cli.files import require_file
from llavamed_cli.records import Answer, Question

HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
FORMS = (
    "a model folder or hub name, openai:MODEL (or a model of the server at --base-url), blind:WHO, clip:FOLDER, "
    "cascade:FILE.toml, nearest, majority, or answers:FILE"
)
Kind = Literal["model", "server", "clip", "cascade", "nearest", "majority", "answers"]


class Answerer(Protocol):
    """Answers questions batch by batch. The batches depend on the questions alone, so a resumed run repeats them."""

    decoding: str
    """How answers come about, in words, for the report."""

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """Every question in exactly one batch, in the order in which they are best asked."""

    def prompt(self, question: Question) -> str:
        """What is asked, verbatim."""

    def answer(self, batch: Sequence[Question]) -> Iterable[Answer | None]:
        """One answer a question, in order, as they come; None where there is none, which counts as wrong."""


@runtime_checkable
class AsksAlone(Protocol):
    """An answerer whose answers hang on nothing else in their batch: of an interrupted one, the rest is asked alone."""

    asks_alone: bool


@dataclass(frozen=True, kw_only=True)
class Who:
    """An answerer as typed.

    target: the model's folder or name, the name of a server's model, or the file. blind: asked without the picture.
    """

    text: str
    kind: Kind
    target: str = ""
    blind: bool = False

    @property
    def model(self) -> str | None:
        """The local model that this answerer needs, if it needs one."""
        return self.target if self.kind == "model" else None


def by_picture(questions: Sequence[Question]) -> list[tuple[Question, ...]]:
    """The questions about each picture together, pictures and questions in the order in which they come."""
    groups: dict[str, list[Question]] = {}
    for question in questions:
        groups.setdefault(question.image, []).append(question)
    return [tuple(group) for group in groups.values()]


def parse_who(text: str, *, served: bool = False) -> Who:
    """Read WHO.

    Args:
        served: a server was named, whose models plain names are.

    Raises:
        UsageError: it names no answerer, or what it names does not exist.
    """
    if text in ("majority", "nearest"):
        return Who(text=text, kind="majority" if text == "majority" else "nearest")
    head, colon, rest = text.partition(":")
    if colon and head == "answers":
        require_file(Path(rest), "file of answers")
        return Who(text=text, kind="answers", target=rest)
    if colon and head == "cascade":
        require_file(Path(rest), "cascade file")
        return Who(text=text, kind="cascade", target=rest)
    if colon and head == "clip":
        return Who(text=text, kind="clip", target=_require_folder(rest))
    if colon and head == "blind":
        seeing = parse_who(rest, served=served)
        if seeing.kind not in ("model", "server") or seeing.blind:
            raise UsageError(f"{rest} has no blind twin: only models that are asked with a picture have one")
        return Who(text=text, kind=seeing.kind, target=seeing.target, blind=True)
    if colon and head == "openai" and rest:
        return Who(text=text, kind="server", target=rest)
    if served and not (Path(text).expanduser() / "config.json").is_file():
        return Who(text=text, kind="server", target=text)
    return Who(text=text, kind="model", target=_require_model(text))


def _require_folder(name: str) -> str:
    if not Path(name).expanduser().is_dir():
        raise UsageError("no such folder: expected a CLIP's", where=name)
    return name


def _require_model(name: str) -> str:
    """The name, if it is a folder with a model or may be one on the hub; a wrong one should fail before work starts."""
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file() or (not folder.exists() and HUB_NAME.fullmatch(name)):
        return name
    if folder.exists():
        raise UsageError("no model here: expected a folder with config.json", where=name)
    near = get_close_matches(
        name.partition(":")[0], ("majority", "nearest", "blind", "answers", "openai", "clip", "cascade"), n=1
    )
    meant = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(f"no such model folder or answerer: {name!r}", hint=f"{meant}Expected {FORMS}.")
