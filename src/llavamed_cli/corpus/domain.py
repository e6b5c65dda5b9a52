"""A domain file, read and checked: the words, modalities, questions and prompts of one field.

All faults of a file are collected and told together; an unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.domain_file import TableReader
from llavamed_cli.corpus.teacher.brief import Brief, read_brief
from llavamed_cli.corpus.words import WordGroups, Words
from llavamed_cli.errors import DataError, UsageError

SECTIONS = ("name", "align", "questions", "answers", "words", "modality", "planes", "regions", "teacher")
LENGTHS = ("brief", "detailed")
QUESTIONS = ("modality", "show", "more", "context")
WORD_LISTS = ("visual", "chart", "statistics", "paper", "borrowed")
MODALITY_KEYS = ("name", "noun", "phrase", "words", "hints", "fits", "without")


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One way of making a picture. noun: in a caption, "chest X-ray"; phrase: in an answer, "a chest X-ray".

    words: name it; hints: speak for it without naming it; without: is cut out before they are sought; fits: tells
    nothing by itself, and is heard where an article names this modality outside of a caption.
    """

    name: str
    noun: str
    phrase: str
    words: Words
    hints: Words
    fits: Words
    without: Words

    def found(self, text: str) -> list[str]:
        """The words in `text` that name this modality."""
        return self.words.found(self.without.cut_from(text)) if self.words.count(text) else []

    def hinted(self, text: str) -> list[str]:
        """The words in `text` that speak for this modality without naming it."""
        return self.hints.found(self.without.cut_from(text)) if self.hints.count(text) else []


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Everything build-data knows about one field. brief: for teachers that are models; None: it serves none."""

    name: str
    align: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, tuple[str, ...]]
    modality_answer: str
    words: Mapping[str, Words]
    modalities: tuple[Modality, ...]
    planes: Mapping[str, Words]
    regions: Mapping[str, str]
    brief: Brief | None

    @cached_property
    def modality_words(self) -> WordGroups:
        """The words of all modalities, none cut out before."""
        return WordGroups({modality.name: modality.words for modality in self.modalities})

    def modality(self, name: str) -> Modality | None:
        """The modality of that name."""
        return next((modality for modality in self.modalities if modality.name == name), None)


def known_domains() -> tuple[str, ...]:
    """The names of the domains that come with llavamed."""
    folder = resources.files("llavamed_cli.domains")
    return tuple(sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")))


def load_domain(where: str) -> Domain:
    """A domain by its name, or from a TOML file.

    Raises:
        UsageError: no such name or file. DataError: not TOML, or not a domain; every fault is listed.
    """
    path = Path(where)
    if where in known_domains():
        text = resources.files("llavamed_cli.domains").joinpath(f"{where}.toml").read_text(encoding="utf-8")
    elif path.is_file():
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError("the domain file is not UTF-8 text", where=where) from error
    else:
        raise UsageError(
            f"no domain {where!r}: neither a file nor one of {', '.join(known_domains())}",
            hint="Give --domain a name from that list, or a TOML file.",
        )
    reader = TableReader()
    domain = _read(reader, _parse(text, where))
    if reader.faults:
        listed = "\n    ".join(reader.faults)
        raise DataError(f"{len(reader.faults)} fault(s) in this domain:\n    {listed}", where=where)
    return domain


def _parse(text: str, where: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"the domain file is not TOML: {error}", where=where) from error


def _read(reader: TableReader, data: dict[str, Any]) -> Domain:
    reader.known("", data, SECTIONS)
    words = reader.table("words", data.get("words"), WORD_LISTS)
    answers = reader.table("answers", data.get("answers"), ("modality",))
    regions = reader.table("regions", data.get("regions", {}))
    modalities = tuple(
        _modality(reader, place, item) for place, item in reader.tables("modality", data.get("modality"), MODALITY_KEYS)
    )
    names = [modality.name for modality in modalities]
    if len(set(names)) < len(names):
        reader.faults.append("two [[modality]] bear the same name")
    return Domain(
        name=reader.text("name", data.get("name")),
        align=_lists(reader, "align", data.get("align"), LENGTHS),
        questions=_lists(reader, "questions", data.get("questions"), QUESTIONS),
        modality_answer=reader.text("answers.modality", answers.get("modality"), "{modality}"),
        words={name: reader.words(f"words.{name}", words.get(name)) for name in WORD_LISTS},
        modalities=modalities,
        planes=reader.word_table("planes", data.get("planes", {})),
        regions={name: reader.text(f"regions.{name}", item) for name, item in regions.items()},
        brief=read_brief(reader, data["teacher"], frozenset(names)) if "teacher" in data else None,
    )


def _modality(reader: TableReader, place: str, item: dict[str, Any]) -> Modality:
    return Modality(
        name=reader.text(f"{place}.name", item.get("name")),
        noun=reader.text(f"{place}.noun", item.get("noun")),
        phrase=reader.text(f"{place}.phrase", item.get("phrase")),
        words=reader.words(f"{place}.words", item.get("words")),
        hints=reader.words(f"{place}.hints", item["hints"]) if "hints" in item else Words(()),
        fits=reader.words(f"{place}.fits", item["fits"]) if "fits" in item else Words(()),
        without=reader.words(f"{place}.without", item["without"]) if "without" in item else Words(()),
    )


def _lists(reader: TableReader, section: str, value: Any, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    table = reader.table(section, value, names)
    return {name: reader.texts(f"{section}.{name}", table.get(name)) for name in names}
