"""How long work reports itself without printing: the terminal layer implements this, tests use `Silent`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One running count."""

    def advance(self, amount: int = 1, **figures: str) -> None:
        """Count `amount` more; figures (such as loss="1.23") are shown beside the bar."""


class Progress(Protocol):
    """Where notes and running counts go."""

    def note(self, message: str) -> None:
        """Say one line that the person should read."""

    def bar(self, label: str, total: int | None, done: int = 0) -> AbstractContextManager[Bar]:
        """Open a running count of `total` steps (None: unknown), of which `done` are done already."""


class _SilentBar:
    def advance(self, amount: int = 1, **figures: str) -> None:
        return


class Silent:
    """Reports nothing."""

    def note(self, message: str) -> None:
        return

    @contextmanager
    def bar(self, label: str, total: int | None, done: int = 0) -> Iterator[Bar]:
        yield _SilentBar()
