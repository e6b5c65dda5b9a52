"""Every picture opened once before the first step, several at a time; after that, only those that changed.

What was found good is remembered by size and time of change, so that half a million pictures are known again in
seconds, and by content, so that a copy of the same picture is no change.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llavamed_cli.errors import PictureError
from llavamed_cli.files import atomic_write, file_sha256
from llavamed_cli.model.images import PICTURE_READERS, open_picture
from llavamed_cli.progress import Progress
from llavamed_cli.training.text_table import TextTable

if TYPE_CHECKING:
    import numpy

Result = TypeVar("Result")
Found = tuple[int, int, tuple[int, int]] | str
"""A good picture's record, or why it is bad."""
RECORD = [("size", "<i8"), ("changed", "<i8"), ("digest", "<u8", (2,))]
"""Bytes, time of change in nanoseconds, and the first half of the SHA-256 of the content. size -1: not known good."""
BLOCK = 128
"""Pictures handed to a reader at a time."""
SAVE_SECONDS = 60.0


@dataclass(frozen=True)
class CheckedPictures:
    """What is known of n pictures.

    records: RECORD [n]. bad: why a picture cannot be used, by number.
    """

    paths: TextTable
    records: numpy.ndarray
    bad: dict[int, str]

    def changed(self, number: int) -> str | None:
        """What happened to a good picture since it was checked; None while its content is the same."""
        path, record = self.paths[number], self.records[number]
        try:
            found = Path(path).stat()
            if (found.st_size, found.st_mtime_ns) == (record["size"], record["changed"]):
                return None
            same = _digest(path) == tuple(record["digest"].tolist())
        except (OSError, ValueError):
            return "is gone"
        return None if same else "has changed"


def check_pictures(paths: TextTable, memory: Path, progress: Progress) -> CheckedPictures:
    """Open the pictures that `memory` does not know as they are now, and remember the good ones there.

    An interrupted check goes on from what it last remembered.
    """
    records = _remembered(memory, len(paths))
    bad: dict[int, str] = {}
    reasons: dict[str, str] = {}
    learned, saved = 0, time.monotonic()
    readers = max(PICTURE_READERS, os.cpu_count() or 1)
    check = partial(_check_block, paths, records)
    try:
        with progress.bar("checking pictures", len(paths)) as bar, ThreadPoolExecutor(readers) as pool:
            for size, results in _ahead(pool, check, range(0, len(paths), BLOCK), readers):
                for number, found in results:
                    if isinstance(found, str):
                        bad[number] = reasons.setdefault(found, found)
                    else:
                        records[number] = found
                        learned += 1
                bar.advance(size)
                if learned and time.monotonic() - saved > SAVE_SECONDS:
                    _remember(memory, records)
                    learned, saved = 0, time.monotonic()
    finally:
        if learned:
            _remember(memory, records)
    return CheckedPictures(paths, records, bad)


def _check_block(paths: TextTable, records: numpy.ndarray, first: int) -> tuple[int, list[tuple[int, Found]]]:
    """How many pictures the block has, and what was found of those that are not as remembered."""
    block = paths.texts(first, min(first + BLOCK, len(paths)))
    known = records[first : first + len(block)]
    results: list[tuple[int, Found]] = []
    for number, (path, size, changed) in enumerate(
        zip(block, known["size"].tolist(), known["changed"].tolist(), strict=True), start=first
    ):
        try:
            found = os.stat(path)  # noqa: PTH116  to make a Path takes longer than to look
            if (found.st_size, found.st_mtime_ns) != (size, changed):
                open_picture(Path(path))
                results.append((number, (found.st_size, found.st_mtime_ns, _digest(path))))
        except PictureError as error:
            results.append((number, error.what))
        except (OSError, ValueError):
            results.append((number, _why_absent(path)))
    return len(block), results


def _why_absent(path: str) -> str:
    """The words of the picture reader for a file that cannot be looked at."""
    try:
        open_picture(Path(path))
    except PictureError as error:
        return error.what
    return "the file came only now"


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[int], Result], items: Iterable[int], most: int
) -> Iterator[Result]:
    """Results in order, with few futures waiting: one for each of many pictures would fill the memory."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for left in waiting:
            left.cancel()


def _digest(path: str) -> tuple[int, int]:
    whole = int(file_sha256(Path(path))[:32], 16)
    return whole >> 64, whole & (2**64 - 1)


def _remembered(memory: Path, count: int) -> numpy.ndarray:
    """RECORD [count], as far as it was remembered."""
    import numpy

    with suppress(OSError):
        records = numpy.fromfile(memory, dtype=RECORD)
        if len(records) == count:
            return records
    records = numpy.zeros(count, dtype=RECORD)
    records["size"] = -1
    return records


def _remember(memory: Path, records: numpy.ndarray) -> None:
    with suppress(OSError), atomic_write(memory, "wb") as stream:  # a memory that cannot be written is only slow
        stream.write(records.tobytes())
