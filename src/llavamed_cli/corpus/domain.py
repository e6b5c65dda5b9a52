"""A domain file, read and checked: the words, modalities and questions of one field.

All faults of a file are collected and told together; an unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from llavamed_cli.errors import DataError, UsageError

SECTIONS = ("name", "align", "questions", "answers", "words", "modality", "planes", "regions")
LENGTHS = ("brief", "detailed")
QUESTIONS = ("modality", "show", "more", "context")
WORD_LISTS = ("visual", "chart", "statistics", "paper", "borrowed")
MODALITY_KEYS = ("name", "noun", "phrase", "words", "without")


@dataclass(frozen=True)
class Words:
    """A list of words, sought in text as whole words: plural s allowed, `*` for any ending, capitals as written.

    One pattern finds candidates in the lower-cased text, several times as fast as one that ignores case; each is then
    looked at as it was written.
    """

    entries: tuple[str, ...]

    @cached_property
    def _candidates(self) -> re.Pattern[str]:
        words = [entry.lower() for entry in self.entries if entry[0].isalnum()]
        signs = [entry.lower() for entry in self.entries if not entry[0].isalnum()]
        return re.compile(rf"(?<!\w)(?:{_alternatives(words)})|(?:{_alternatives(signs)})")

    @cached_property
    def _as_written(self) -> re.Pattern[str]:
        return re.compile(_alternatives([entry for entry in self.entries if entry != entry.lower()]))

    @cached_property
    def _in_any_case(self) -> re.Pattern[str]:
        return re.compile(_alternatives([entry for entry in self.entries if entry == entry.lower()]))

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self._candidates.finditer(_lowered(text)):
            start, end = match.span()
            if self._in_any_case.fullmatch(match.group()) or self._as_written.fullmatch(text[start:end]):
                yield start, end

    def found(self, text: str) -> list[str]:
        """The matches in `text`, as they stand there, in order."""
        return [text[start:end] for start, end in self._spans(text)]

    def count(self, text: str) -> int:
        """How many matches `text` holds."""
        return sum(1 for _ in self._spans(text))

    def cut_from(self, text: str) -> str:
        """`text` with a blank in place of every match."""
        for start, end in reversed(list(self._spans(text))):
            text = f"{text[:start]} {text[end:]}"
        return text


def _lowered(text: str) -> str:
    """`text` in lower case, letter for letter: the few that become two, as the Turkish capital I does, stay."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _alternatives(entries: Sequence[str]) -> str:
    """A pattern of any of `entries`, the longest first, so that "PET/CT" is found before "PET"; of none, no match."""
    ordered = sorted(entries, key=lambda entry: (-len(entry), entry))
    return "|".join(map(_entry_pattern, ordered)) or r"(?!)"


def _entry_pattern(entry: str) -> str:
    stem = entry.removesuffix("*")
    body = re.escape(stem).replace(r"\ ", r"\s+")
    if entry.endswith("*"):
        return body + r"\w*"
    return body + r"s?(?!\w)" if stem[-1:].isalnum() else body


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One way of making a picture. noun: in a caption, "chest X-ray"; phrase: in an answer, "a chest X-ray".

    words: name it; without: is cut out before they are sought.
    """

    name: str
    noun: str
    phrase: str
    words: Words
    without: Words

    def found(self, text: str) -> list[str]:
        """The words in `text` that name this modality."""
        return self.words.found(self.without.cut_from(text)) if self.words.count(text) else []


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Everything build-data knows about one field."""

    name: str
    align: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, tuple[str, ...]]
    modality_answer: str
    words: Mapping[str, Words]
    modalities: tuple[Modality, ...]
    planes: Mapping[str, Words]
    regions: Mapping[str, str]

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
    return _Reader(where).read(_parse(text, where))


def _parse(text: str, where: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"the domain file is not TOML: {error}", where=where) from error


@dataclass
class _Reader:
    """Reads one file's tables, and gathers what is wrong with them."""

    where: str
    faults: list[str] = field(default_factory=list)

    def read(self, data: dict[str, Any]) -> Domain:
        self._known("", data, SECTIONS)
        words = self._table(data, "words", WORD_LISTS)
        answers = self._table(data, "answers", ("modality",))
        modalities = data.get("modality")
        domain = Domain(
            name=self._text("name", data.get("name")),
            align=self._lists(data, "align", LENGTHS),
            questions=self._lists(data, "questions", QUESTIONS),
            modality_answer=self._text("answers.modality", answers.get("modality")),
            words={name: Words(self._list(f"words.{name}", words.get(name))) for name in WORD_LISTS},
            modalities=tuple(self._modality(index, item) for index, item in enumerate(modalities))
            if isinstance(modalities, list)
            else (),
            planes={
                name: Words(self._list(f"planes.{name}", item)) for name, item in self._table(data, "planes").items()
            },
            regions={name: self._text(f"regions.{name}", item) for name, item in self._table(data, "regions").items()},
        )
        if "{modality}" not in domain.modality_answer:
            self.faults.append("answers.modality must hold {modality}")
        if not domain.modalities:
            self.faults.append("no [[modality]]")
        if self.faults:
            listed = "\n    ".join(self.faults)
            raise DataError(f"{len(self.faults)} fault(s) in this domain:\n    {listed}", where=self.where)
        return domain

    def _modality(self, index: int, item: Any) -> Modality:
        place = f"modality[{index}]."
        item = item if isinstance(item, dict) else {}
        self._known(place, item, MODALITY_KEYS)
        return Modality(
            name=self._text(f"{place}name", item.get("name")),
            noun=self._text(f"{place}noun", item.get("noun")),
            phrase=self._text(f"{place}phrase", item.get("phrase")),
            words=Words(self._list(f"{place}words", item.get("words"))),
            without=Words(self._list(f"{place}without", item["without"]) if "without" in item else ()),
        )

    def _lists(self, data: dict[str, Any], section: str, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        table = self._table(data, section, names)
        return {name: self._list(f"{section}.{name}", table.get(name)) for name in names}

    def _table(self, data: dict[str, Any], section: str, names: Sequence[str] = ()) -> dict[str, Any]:
        """A section; its keys are free where no names are given, and then it may be left out."""
        table = data.get(section, None if names else {})
        if not isinstance(table, dict):
            self.faults.append(f"[{section}] must be a table")
            return {}
        if names:
            self._known(f"{section}.", table, names)
        return table

    def _list(self, place: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, list) and value and all(isinstance(item, str) and item.strip("* ") for item in value):
            return tuple(value)
        self.faults.append(f"{place} must be a list of texts, with at least one")
        return ()

    def _text(self, place: str, value: Any) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self.faults.append(f"{place} must be a text")
        return ""

    def _known(self, place: str, table: Any, names: Sequence[str]) -> None:
        for key in table if isinstance(table, dict) else ():
            if key not in names:
                near = get_close_matches(key, names, n=1)
                advice = f", did you mean {near[0]}?" if near else f"; known: {', '.join(names)}"
                self.faults.append(f"unknown key {place}{key}{advice}")
