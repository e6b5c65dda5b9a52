"""What every teacher is: figures that passed screening go in, conversations come out, in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.lessons import Exchange


@dataclass(frozen=True)
class Drop:
    """A turn, or a whole answer, that was not used. reason: one of few, to count by. detail: what is particular."""

    reason: str
    detail: str | None = None


@dataclass(frozen=True)
class Taught:
    """A conversation about one figure; empty where nothing usable came. drops: what was taken out of it."""

    exchanges: tuple[Exchange, ...] = ()
    drops: tuple[Drop, ...] = ()


class Teacher(Protocol):
    """Writes conversations from text alone."""

    def teach(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Taught]]:
        """Yield every candidate with its conversation, in order."""
        ...

    def spent(self) -> dict[str, Any]:
        """Requests, tokens and US dollars so far, by name; empty for a teacher that costs nothing."""
        ...
