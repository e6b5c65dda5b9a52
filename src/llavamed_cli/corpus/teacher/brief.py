"""What a domain tells a teacher that is a model: its task, examples to follow, and what its answers are held against.

It is a domain file's [teacher] section; the comment at the top of domains/biomedical.toml says what each entry is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llavamed_cli.corpus.domain_file import TableReader
from llavamed_cli.corpus.units import Units
from llavamed_cli.corpus.words import WordGroups, Words

KEYS = (
    "system",
    "caption",
    "mentions",
    "openings",
    "refusals",
    "source_talk",
    "alike",
    "sides",
    "findings",
    "units",
    "example",
)
EXAMPLE_KEYS = ("caption", "mentions", "dialogue")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A figure's text, and a conversation about it as it should be."""

    caption: str
    mentions: tuple[str, ...]
    dialogue: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Brief:
    """The [teacher] section. See the comment in biomedical.toml for each.

    caption, mentions: templates that hold {caption} and {mentions}.
    alike: groups of modalities, by name, that an answer may take for each other.
    sides: sets of sides that exclude each other. units: by what they measure, each as a multiple of the same unit.
    """

    system: str
    caption: str
    mentions: str
    examples: tuple[Example, ...]
    openings: Words
    refusals: Words
    source_talk: Words
    alike: tuple[frozenset[str], ...]
    sides: tuple[WordGroups, ...]
    findings: WordGroups
    units: Units


def read_brief(reader: TableReader, value: Any, modalities: frozenset[str]) -> Brief:
    """The section as `reader` finds it. modalities: the names that `alike` may use."""
    table = reader.table("teacher", value, KEYS)
    examples = reader.tables("teacher.example", table.get("example"), EXAMPLE_KEYS)
    units = reader.table("teacher.units", table.get("units", {}))
    return Brief(
        system=reader.text("teacher.system", table.get("system")),
        caption=reader.text("teacher.caption", table.get("caption"), "{caption}"),
        mentions=reader.text("teacher.mentions", table.get("mentions"), "{mentions}"),
        examples=tuple(_example(reader, place, item) for place, item in examples),
        openings=reader.words("teacher.openings", table.get("openings")),
        refusals=reader.words("teacher.refusals", table.get("refusals")),
        source_talk=reader.words("teacher.source_talk", table.get("source_talk")),
        alike=_alike(reader, table.get("alike", []), modalities),
        sides=tuple(
            WordGroups(reader.word_table(place, item))
            for place, item in reader.tables("teacher.sides", table.get("sides"))
        )
        if "sides" in table
        else (),
        findings=WordGroups(reader.word_table("teacher.findings", table.get("findings", {}))),
        units=Units(
            {
                kind: {
                    unit: reader.number(f"teacher.units.{kind}.{unit}", size)
                    for unit, size in reader.table(f"teacher.units.{kind}", of_kind).items()
                }
                for kind, of_kind in units.items()
            }
        ),
    )


def _example(reader: TableReader, place: str, item: dict[str, Any]) -> Example:
    """One example; its dialogue is a list of [question, answer]."""
    dialogue = item.get("dialogue")
    pairs = dialogue if isinstance(dialogue, list) else []
    exchanges = []
    for pair in pairs:
        texts = reader.texts(f"{place}.dialogue", pair)
        if len(texts) == 2:
            exchanges.append((texts[0], texts[1]))
    if not pairs or len(exchanges) != len(pairs):
        reader.faults.append(f"{place}.dialogue must be a list of [question, answer]")
    return Example(
        caption=reader.text(f"{place}.caption", item.get("caption")),
        mentions=reader.texts(f"{place}.mentions", item["mentions"]) if "mentions" in item else (),
        dialogue=tuple(exchanges),
    )


def _alike(reader: TableReader, value: Any, modalities: frozenset[str]) -> tuple[frozenset[str], ...]:
    groups = value if isinstance(value, list) else [value]
    named = [frozenset(reader.texts("teacher.alike", group)) for group in groups]
    for unknown in sorted(frozenset().union(*named) - modalities):
        reader.faults.append(f"teacher.alike: {unknown} is no modality of this domain")
    return tuple(named)
