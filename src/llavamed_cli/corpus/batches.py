"""A part of a source, small enough to hold in memory: what one worker reads and screens at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.records import Figure


class Batch(Protocol):
    """Reads its figures when asked to, in whatever process it was sent to; so it must be picklable."""

    def read(self) -> Iterator[Figure | Rejection]:
        """Yield the figures in their order, and in the place of what cannot be read, why."""
        ...


@dataclass(frozen=True)
class FigureList:
    """A batch that was read already."""

    items: tuple[Figure | Rejection, ...]

    def read(self) -> Iterator[Figure | Rejection]:
        """Yield what it holds."""
        yield from self.items
