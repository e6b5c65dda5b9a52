"""Lists of words, sought in text as people write them: one pattern a list, compiled when it is first used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property


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

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the matches in `text` begin and end, in order."""
        for match in self._candidates.finditer(_lowered(text)):
            start, end = match.span()
            if self._in_any_case.fullmatch(match.group()) or self._as_written.fullmatch(text[start:end]):
                yield start, end

    def found(self, text: str) -> list[str]:
        """The matches in `text`, as they stand there, in order."""
        return [text[start:end] for start, end in self.spans(text)]

    def count(self, text: str) -> int:
        """How many matches `text` holds."""
        return sum(1 for _ in self.spans(text))

    def cut_from(self, text: str) -> str:
        """`text` with a blank in place of every match."""
        for start, end in reversed(list(self.spans(text))):
            text = f"{text[:start]} {text[end:]}"
        return text

    def cut_from_start(self, text: str) -> str:
        """`text` without the match it begins with, if any."""
        start, end = next(self.spans(text), (1, 0))
        return text[end:] if start == 0 else text


@dataclass(frozen=True)
class WordGroups:
    """Lists of words under names, sought in one pass: dozens of lists are found about as fast as one."""

    groups: Mapping[str, Words]
    _names: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def _any(self) -> Words:
        return Words(tuple(dict.fromkeys(entry for words in self.groups.values() for entry in words.entries)))

    def named(self, text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        """Where the matches in `text` begin and end, in order, and the names of the lists that have words in them."""
        for start, end in self._any.spans(text):
            said = text[start:end]
            if said not in self._names:
                self._names[said] = tuple(name for name, words in self.groups.items() if words.count(said))
            yield start, end, self._names[said]


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
