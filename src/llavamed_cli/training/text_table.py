"""Many texts in two files, written one after the other and found by number without reading the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

BLOCK = 4096
"""Texts read at a time where all are read."""
LOSSLESS = "surrogatepass"
"""JSON may write half of a surrogate pair, which UTF-8 has no bytes for."""


def table_files(path: Path) -> tuple[Path, Path]:
    """The texts' bytes, and where each ends."""
    return path.with_suffix(".texts"), path.with_suffix(".ends")


class TextWriter:
    """Writes a table; a context manager."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as opened:
            self._texts, self._ends = (opened.enter_context(file.open("wb")) for file in table_files(path))
            self._opened = opened.pop_all()
        self._end = 0

    def write(self, text: str) -> None:
        """Add a text."""
        self._end += self._texts.write(text.encode("utf-8", LOSSLESS))
        self._ends.write(self._end.to_bytes(8, "little"))

    def __enter__(self) -> TextWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()


class TextTable:
    """Reads a table. Bytes are read rather than mapped, so that they leave memory again."""

    def __init__(self, path: Path) -> None:
        texts, ends = table_files(path)
        self._texts = texts.open("rb")
        self._ends = ends.open("rb")
        self._count = ends.stat().st_size // 8

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < self._count:
            raise IndexError(f"text {number} of {self._count}")
        return self.texts(number, number + 1)[0]

    def texts(self, first: int, end: int) -> list[str]:
        """The texts from `first` up to `end`."""
        ends = self._read_ends(first, end)
        whole = os.pread(self._texts.fileno(), ends[-1] - ends[0], ends[0])
        return [whole[a - ends[0] : b - ends[0]].decode("utf-8", LOSSLESS) for a, b in pairwise(ends)]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, self._count, BLOCK):
            yield from self.texts(first, min(first + BLOCK, self._count))

    def _read_ends(self, first: int, end: int) -> list[int]:
        """Where text `first` begins, and where each up to `end` ends."""
        import numpy

        before = max(0, first - 1)
        found: numpy.ndarray = numpy.frombuffer(
            os.pread(self._ends.fileno(), 8 * (end - before), 8 * before), dtype="<i8"
        )
        return [0, *found.tolist()] if first == 0 else found.tolist()
