"""Writes stores of encoded samples into the cache: whole or absent, in little memory, old ones cleared away."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.errors import DataError, first_line
from llavamed_cli.files import json_line, umask, write_json
from llavamed_cli.records import Fault
from llavamed_cli.training import example_store as layout
from llavamed_cli.training.example_store import EncodedSample, fault_record, mapped, open_store
from llavamed_cli.training.text_table import LOSSLESS, TextTable, TextWriter, table_files

if TYPE_CHECKING:
    import numpy

VARIABLE = "LLAVAMED_CACHE"
DAYS_KEPT = 30
"""A store that no run has opened for so long is removed when another is made."""
DAY_SECONDS = 24 * 3600
NAMED = "named"
"""The pictures' paths as often as samples name them; made into `pictures` at the end."""
DIGEST = 16
NUMBER = re.compile(r"\d[\d,.]*")
"""What of a reason is mostly particular to one record."""
KINDS_COUNTED = 100


def cache_folder() -> Path:
    """Where stores lie: in the folder that LLAVAMED_CACHE names, else in the user's cache folder."""
    import platformdirs

    chosen = os.environ.get(VARIABLE)
    return (Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("llavamed")) / "examples"


@contextmanager
def new_store(target: Path, *, image_token: int, image_length: int) -> Iterator[StoreWriter]:
    """Open a store to be written, which stands at `target` when the block ends without an error.

    Several processes may write the same one: the first that ends is kept, and the others' work is the same.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_away(target.parent)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        with ExitStack() as opened:
            writer = StoreWriter(building, opened)
            yield writer
        writer.finish(image_token=image_token, image_length=image_length)
        building.chmod(0o777 & ~umask())
        if open_store(target) is None:
            shutil.rmtree(target, ignore_errors=True)
            with suppress(FileExistsError):
                building.rename(target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


class StoreWriter:
    """Takes samples and faults one by one. Memory grows by 16 bytes for each time that a picture is named."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self._folder = folder
        self._tokens = opened.enter_context((folder / layout.TOKENS).open("wb"))
        self._rows = opened.enter_context((folder / layout.ROWS).open("wb"))
        self._faults = opened.enter_context((folder / layout.FAULTS).open("w", encoding="utf-8"))
        self._ids, self._places, self._named = (
            opened.enter_context(TextWriter(folder / name)) for name in (layout.IDS, layout.PLACES, NAMED)
        )
        self._content = hashlib.sha256()
        self._digests = bytearray()
        self._end = 0
        self._reasons: Counter[str] = Counter()

    def add(self, sample: EncodedSample) -> None:
        """Write one sample."""
        stored, pictures = len(sample.tokens) // 4, len(self._digests) // DIGEST
        place = self._end, stored, sample.length, sample.prefix, sample.supervised, pictures, len(sample.pictures)
        self._rows.write(struct.pack("<8q", *place, -1))
        self._tokens.write(sample.tokens)
        self._end += stored
        self._ids.write(sample.id)
        self._places.write(sample.where)
        for path in sample.pictures:
            self._named.write(path)
            self._digests += hashlib.blake2b(path.encode("utf-8", LOSSLESS), digest_size=DIGEST).digest()
        self._content.update(sample.tokens)
        self._content.update(f"{stored} {len(sample.pictures)} {sample.id}\0".encode("utf-8", LOSSLESS))

    def fault(self, fault: Fault) -> None:
        """Write one record that is set aside."""
        self._faults.write(json_line(fault_record(fault)))
        count_reason(self._reasons, fault.reason)

    def finish(self, *, image_token: int, image_length: int) -> None:
        """Number the pictures, see every file to the disk, and write the head last. The files are closed by now."""
        self._number_pictures()
        sizes = layout.written_sizes(self._folder)
        for name in sizes:
            with (self._folder / name).open("rb") as stream:
                os.fsync(stream.fileno())
        write_json(
            self._folder / layout.HEAD,
            {
                "format": layout.FORMAT,
                "image_token": image_token,
                "image_length": image_length,
                "content": self._content.hexdigest(),
                "reasons": self._reasons,
                "sizes": sizes,
            },
        )

    def _number_pictures(self) -> None:
        """Write each path once, by first appearance, and which of them each sample names."""
        import numpy

        digests = numpy.frombuffer(self._digests, dtype=f"S{DIGEST}")
        _, first, which = numpy.unique(digests, return_index=True, return_inverse=True)
        order = numpy.argsort(first)
        numbers = numpy.empty(len(order), dtype="<i8")
        numbers[order] = numpy.arange(len(order))
        references = numbers[which.reshape(-1)]
        references.tofile(self._folder / layout.REFERENCES)
        is_first = numpy.zeros(len(digests), dtype=bool)
        is_first[first] = True
        with TextWriter(self._folder / layout.PICTURES) as pictures:
            for path, new in zip(TextTable(self._folder / NAMED), is_first, strict=True):
                if new:
                    pictures.write(path)
        for file in table_files(self._folder / NAMED):
            file.unlink()
        rows = mapped(self._folder / layout.ROWS, "r+").reshape(-1, len(layout.COLUMNS))
        if len(references):
            rows[:, -1] = _picture_keys(rows[:, -3], rows[:, -2], references, len(order))


def _picture_keys(
    first: numpy.ndarray, counts: numpy.ndarray, references: numpy.ndarray, pictures: int
) -> numpy.ndarray:
    """int64 [n]: the number of a sample's one picture, or a number beyond those for each tuple of several."""
    import numpy

    keys = numpy.where(counts == 1, references[numpy.minimum(first, len(references) - 1)], -1)
    several: dict[bytes, int] = {}
    for number in numpy.flatnonzero(counts > 1):
        named = references[first[number] : first[number] + counts[number]].tobytes()
        keys[number] = several.setdefault(named, pictures + len(several))
    return keys


def count_reason(reasons: Counter[str], reason: str, times: int = 1) -> None:
    """Count a reason by its kind. Where there are too many kinds, the rest is one."""
    kind = NUMBER.sub("…", reason)
    reasons[kind if kind in reasons or len(reasons) < KINDS_COUNTED else "other reasons"] += times


def _clear_away(cache: Path) -> None:
    """Remove what killed processes were writing a day ago and more, and stores that nobody wanted for a month."""
    now = time.time()
    for folder in cache.iterdir():
        head = folder / layout.HEAD
        torn = folder.name.endswith(".part")
        file, days = (folder / layout.TOKENS, 1) if torn else (head, DAYS_KEPT)
        with suppress(OSError):
            if now - file.stat().st_mtime > days * DAY_SECONDS:
                shutil.rmtree(folder)


def _cannot_write(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"encoded samples cannot be kept here: {error.strerror or first_line(error)}",
        where=str(folder.parent),
        hint=f"Set {VARIABLE} to a folder with room; what lies in this one may be removed at any time.",
    )
