"""Lists of words, sought in text as people write them: one pattern a list, compiled when it is first used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

_AS_TYPED = str.maketrans("\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d\u2018\u2019", "--------''")
_BETWEEN_WORDS = re.compile(r"(?<=[a-zA-Z]{3})(?:\\-|\\ )(?=[a-zA-Z]{3})")


@dataclass(frozen=True)
class Words:
    """A list of words, sought in text as whole words: plural s allowed, `*` for any ending, capitals as written.

    Every dash is a hyphen and every apostrophe a straight one; between words of three letters and more, a blank and a
    hyphen are alike ("11C-*" must not find "Figure 11C shows").

    One pattern finds candidates in the lower-cased text, several times as fast as one that ignores case; each is then
    looked at as it was written.
    """

    entries: tuple[str, ...]

    @cached_property
    def _candidates(self) -> re.Pattern[str]:
        entries = [_plain(entry).lower() for entry in self.entries]
        words = [entry for entry in entries if entry[0].isalnum()]
        signs = [entry for entry in entries if not entry[0].isalnum()]
        return re.compile(rf"(?<!\w)(?:{_alternatives(words)})|(?:{_alternatives(signs)})")

    @cached_property
    def _as_written(self) -> re.Pattern[str]:
        return re.compile(_alternatives([_plain(entry) for entry in self.entries if entry != entry.lower()]))

    @cached_property
    def _in_any_case(self) -> re.Pattern[str]:
        return re.compile(_alternatives([_plain(entry) for entry in self.entries if entry == entry.lower()]))

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the matches in `text` begin and end, in order."""
        text, lowered = _read(text)
        for match in self._candidates.finditer(lowered):
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


def _plain(text: str) -> str:
    """`text` with the dashes and apostrophes that a keyboard has, letter for letter."""
    return text if text.isascii() else text.translate(_AS_TYPED)


@lru_cache(maxsize=64)
def _read(text: str) -> tuple[str, str]:
    """`text` plain, and the same in lower case; kept for a while, since many lists are sought in one text."""
    plain = _plain(text)
    return plain, _lowered(plain)


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
    body = _BETWEEN_WORDS.sub(r"[-\\s]+", re.escape(stem)).replace(r"\ ", r"\s+")
    if entry.endswith("*"):
        return body + r"\w*"
    return body + r"s?(?!\w)" if stem[-1:].isalnum() else body
