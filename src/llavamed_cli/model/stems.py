"""What prompts about the same pictures have in common: a stem that is read once, and a branch for each question.

Nothing is gained by a deeper tree: what questions share beyond the first difference is a few words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

LEAST_BRANCHES, BRANCHES_A_PREFIX = 256, 8
"""Branches of one stem see each other's keys and are masked from them, so their tokens are kept to 256, or to eight
times the prefix, which by then is cheaper to read again than so many keys are to skip."""


@dataclass(frozen=True)
class AskedRow:
    """A prompt as tokens. pictures: numbers of its pictures, in the order of their places."""

    ids: tuple[int, ...]
    pictures: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stem:
    """Prompts that begin alike.

    prefix: the tokens that all begin with, empty for a single prompt. branches: what each goes on with, one token at
    least. members: the prompts' numbers.
    """

    prefix: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]
    pictures: tuple[int, ...]
    members: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """How many are read."""
        return len(self.prefix) + sum(map(len, self.branches))

    def halves(self) -> tuple[Stem, Stem]:
        """Its prompts in two stems."""
        half = len(self.members) // 2
        first, second = slice(None, half), slice(half, None)
        return (
            replace(self, branches=self.branches[first], members=self.members[first]),
            replace(self, branches=self.branches[second], members=self.members[second]),
        )

    def kept(self, new_tokens: int) -> int:
        """How many are kept once every answer has so many."""
        return self.tokens + new_tokens * len(self.branches)


def grow_stems(rows: Sequence[AskedRow], *, most: int, new_tokens: int) -> list[Stem]:
    """Divide prompts into stems, by their pictures and in their order, none keeping more than `most` tokens if it has
    several branches."""
    by_pictures: dict[tuple[int, ...], list[int]] = {}
    for number, row in enumerate(rows):
        by_pictures.setdefault(row.pictures, []).append(number)
    stems = []
    for numbers in by_pictures.values():
        common = common_length([rows[number].ids for number in numbers])
        limit = max(LEAST_BRANCHES, BRANCHES_A_PREFIX * common)
        for members in _divided(numbers, [len(rows[n].ids) - common for n in numbers], common, limit, most, new_tokens):
            stems.append(_stem(rows, members))
    return stems


def common_length(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all rows begin with, leaving each one at least; 0 for a single row, which shares nothing."""
    if len(rows) < 2:
        return 0
    first, last = min(rows), max(rows)  # what these two begin with, all that sort between them do
    limit = min(map(len, rows)) - 1
    return next((place for place in range(limit) if first[place] != last[place]), limit)


def fill(stems: Iterable[Stem], *, most: int, new_tokens: int) -> list[list[Stem]]:
    """Stems to be answered together, of similar length: each takes the room of the longest, together `most` tokens."""
    batches: list[list[Stem]] = []
    for stem in sorted(stems, key=lambda stem: stem.kept(new_tokens)):
        if batches and (len(batches[-1]) + 1) * stem.kept(new_tokens) <= most:
            batches[-1].append(stem)
        else:
            batches.append([stem])
    return batches


def rows_of(stems: Sequence[Stem], *, most: int) -> list[range]:
    """Neighbouring stems that are read in one row of at most `most` tokens; one that is longer has its own."""
    rows: list[range] = []
    tokens = 0
    for number, stem in enumerate(stems):
        tokens += stem.tokens
        if rows and tokens <= most:
            rows[-1] = range(rows[-1].start, number + 1)
        else:
            rows.append(range(number, number + 1))
            tokens = stem.tokens
    return rows


def _divided(
    numbers: Sequence[int], lengths: Sequence[int], common: int, limit: int, most: int, new_tokens: int
) -> list[list[int]]:
    """Cut a picture's questions where their branches would pass `limit` tokens, or all they keep `most`."""
    parts: list[list[int]] = []
    branches = kept = 0
    for number, length in zip(numbers, lengths, strict=True):
        branches += length
        kept += length + new_tokens
        if parts and branches <= limit and kept <= most:
            parts[-1].append(number)
        else:
            parts.append([number])
            branches, kept = length, common + length + new_tokens
    return parts


def _stem(rows: Sequence[AskedRow], members: Sequence[int]) -> Stem:
    common = common_length([rows[number].ids for number in members])
    first = rows[members[0]]
    return Stem(
        prefix=first.ids[:common],
        branches=tuple(rows[number].ids[common:] for number in members),
        pictures=first.pictures,
        members=tuple(members),
    )
