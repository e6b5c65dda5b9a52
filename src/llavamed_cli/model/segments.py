"""How a packed row of tokens is divided: samples side by side, or branches that grow from one shared prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

Span = tuple[int, int]
"""Start and end (one past the last) of neighbouring tokens of a row."""


@dataclass(frozen=True)
class Segments:
    """The segments of a row of T tokens, in order, without gaps.

    spans: each one's start and end. prefixes: for each, the span that it sees besides itself (an earlier segment that
    has no prefix of its own), or None. A token sees itself, what stands before it in its segment, and all of the
    prefix.
    """

    spans: tuple[Span, ...]
    prefixes: tuple[Span | None, ...]

    @classmethod
    def apart(cls, lengths: Sequence[int]) -> Segments:
        """Samples of these lengths side by side, sharing nothing."""
        return cls(
            tuple((end - length, end) for end, length in zip(accumulate(lengths), lengths, strict=True)),
            (None,) * len(lengths),
        )

    @property
    def length(self) -> int:
        """T."""
        return self.spans[-1][1] if self.spans else 0

    @property
    def shared(self) -> bool:
        """Whether any segment has a prefix."""
        return any(prefix is not None for prefix in self.prefixes)

    @cached_property
    def seen(self) -> tuple[tuple[Span, ...], ...]:
        """For each segment, what its last token sees: its prefix and itself, as one span where they meet."""
        return tuple(joined(prefix, span) for span, prefix in zip(self.spans, self.prefixes, strict=True))

    @cached_property
    def positions(self) -> list[int]:
        """Each token's place in its own sample: a branch goes on where its prefix ends."""
        places: list[int] = []
        for (start, end), prefix in zip(self.spans, self.prefixes, strict=True):
            first = prefix[1] - prefix[0] if prefix else 0
            places += range(first, first + end - start)
        return places

    @cached_property
    def numbers(self) -> tuple[list[int], list[int]]:
        """For each token the number of its segment, and that of its prefix or -1."""
        number_of = {span: number for number, span in enumerate(self.spans)}
        own: list[int] = []
        before: list[int] = []
        for number, ((start, end), prefix) in enumerate(zip(self.spans, self.prefixes, strict=True)):
            own += [number] * (end - start)
            before += [number_of[prefix] if prefix else -1] * (end - start)
        return own, before

    @cached_property
    def kept(self) -> dict[Any, Any]:
        """What an attention kernel made of these segments in the first layer and needs again in the others."""
        return {}


def joined(prefix: Span | None, own: Span) -> tuple[Span, ...]:
    """The two as one span where they stand side by side."""
    if prefix is None:
        return (own,)
    return ((prefix[0], own[1]),) if prefix[1] == own[0] else (prefix, own)
