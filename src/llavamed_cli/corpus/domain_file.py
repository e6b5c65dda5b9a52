"""Reads the tables of a domain file, and gathers every fault so that all are told together.

It knows what a text, a list or a table is, and nothing of any field's words: those stand in domain.py and brief.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from llavamed_cli.corpus.words import Words


@dataclass
class TableReader:
    """Reads values out of parsed TOML. faults: what was not as it should be, each with its place.

    A value that is wrong is told and read as an empty one, so that reading goes on to the next fault.
    """

    faults: list[str] = field(default_factory=list)

    def text(self, place: str, value: Any, *holds: str) -> str:
        """A text that is not blank, with the placeholders it must hold."""
        if not isinstance(value, str) or not value.strip():
            self.faults.append(f"{place} must be a text")
            return ""
        self.faults.extend(f"{place} must hold {name}" for name in holds if name not in value)
        return value

    def texts(self, place: str, value: Any) -> tuple[str, ...]:
        """A list of texts, with at least one."""
        if isinstance(value, list) and value and all(isinstance(item, str) and item.strip("* ") for item in value):
            return tuple(value)
        self.faults.append(f"{place} must be a list of texts, with at least one")
        return ()

    def words(self, place: str, value: Any) -> Words:
        """A list of words."""
        return Words(self.texts(place, value))

    def number(self, place: str, value: Any) -> float:
        """A number above 0."""
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
            return float(value)
        self.faults.append(f"{place} must be a number above 0")
        return 1.0

    def table(self, place: str, value: Any, names: Sequence[str] = ()) -> dict[str, Any]:
        """A table; its keys are free where no names are given."""
        if not isinstance(value, dict):
            self.faults.append(f"[{place}] must be a table")
            return {}
        if names:
            self.known(f"{place}.", value, names)
        return value

    def tables(self, place: str, value: Any, names: Sequence[str] = ()) -> list[tuple[str, dict[str, Any]]]:
        """An array of tables, with at least one, each with its place."""
        if not isinstance(value, list) or not value:
            self.faults.append(f"no [[{place}]]")
            return []
        places = [f"{place}[{index}]" for index in range(len(value))]
        return [(each, self.table(each, item, names)) for each, item in zip(places, value, strict=True)]

    def word_table(self, place: str, value: Any) -> dict[str, Words]:
        """A table of word lists under names of its own."""
        return {name: self.words(f"{place}.{name}", item) for name, item in self.table(place, value).items()}

    def known(self, place: str, table: dict[str, Any], names: Sequence[str]) -> None:
        """Tell every key of `table` that is not among `names`, with the nearest that is."""
        for key in table:
            if key not in names:
                near = get_close_matches(key, names, n=1)
                advice = f", did you mean {near[0]}?" if near else f"; known: {', '.join(names)}"
                self.faults.append(f"unknown key {place}{key}{advice}")
