"""Which earlier record a record repeats: the same bytes, the same picture, or the same caption.

What was seen lies in a scratch file of SQLite, so that memory stays flat at millions of records. The search for near
hashes is exact: two hashes within 23 bits of each other, cut into 12 parts, agree in one part but for a bit at most.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import unicodedata
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llavamed_cli.corpus.screening.picture_hash import BITS, KEPT, PARTS, PictureHash, distance
from llavamed_cli.errors import LlavamedError, first_line

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Self

NEAR = 2 * PARTS - 1
"""Bits by which two hashes of one picture differ at most: between the 19 of changes that leave a picture the same and
the 44 of the most alike that are not (measured: see `picture_hash`)."""
MIN_CAPTION_WORDS = 8
"""A shorter caption ("Chest radiograph of the patient.") is rightly that of many pictures."""
CACHE_KIB = 65_536

SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -{cache};
CREATE TABLE records (number INTEGER PRIMARY KEY, id TEXT NOT NULL);
CREATE TABLE exact (key BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE views (view INTEGER PRIMARY KEY, number INTEGER NOT NULL, hash BLOB NOT NULL);
CREATE TABLE parts (part INTEGER, view INTEGER, PRIMARY KEY (part, view)) WITHOUT ROWID;
BEGIN;
"""

_WIDTHS = [BITS // PARTS + (part < BITS % PARTS) for part in range(PARTS)]
_SHIFTS = [BITS - end for end in accumulate(_WIDTHS)]
_WIDEST = max(_WIDTHS)

By = Literal["bytes", "picture", "caption"]


@dataclass(frozen=True)
class Duplicate:
    """id: of the earlier record. by: what is the same. bits: in which the pictures' hashes differ, where it is they."""

    id: str
    by: By
    bits: int | None = None


class Seen:
    """The records of one run so far. `file` is scratch: it begins empty and is worth nothing when the run ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._filled = _Filled()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        try:
            self._database = sqlite3.connect(file, isolation_level=None)
            self._database.executescript(SCHEMA.format(cache=CACHE_KIB))
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def add(self, id: str, sha256: str, picture: PictureHash, caption: str | None) -> Duplicate | None:
        """Remember a record, or tell which earlier one it repeats; a repeated one is not remembered.

        Args:
            sha256: of the picture's bytes, in hex.
            caption: None where it is not to be compared, as for the panels of one figure.

        Raises:
            LlavamedError: the scratch file cannot be written, as on a full disk.
        """
        earlier = self.find(sha256, picture, caption)
        if earlier is None:
            try:
                self._insert(id, _exact_keys(sha256, caption), picture)
            except sqlite3.Error as error:
                raise self._failure(error) from error
        return earlier

    def find(self, sha256: str, picture: PictureHash, caption: str | None) -> Duplicate | None:
        """The earlier record that this one repeats: by its bytes, else the nearest picture, else the caption.

        Raises:
            LlavamedError: the scratch file cannot be read.
        """
        try:
            return (
                self._exact("bytes", sha256, caption) or self._near(picture) or self._exact("caption", sha256, caption)
            )
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def _exact(self, by: By, sha256: str, caption: str | None) -> Duplicate | None:
        key = _exact_keys(sha256, caption).get(by)
        row = self._database.execute(
            "SELECT id FROM exact JOIN records USING (number) WHERE key = ?", (key,)
        ).fetchone()
        return Duplicate(row[0], by) if row else None

    def _near(self, picture: PictureHash) -> Duplicate | None:
        probes = self._filled.of(_probes(picture))
        if not probes:
            return None
        marks = ",".join("?" * len(probes))
        found = self._database.execute(
            f"SELECT DISTINCT view, number, hash FROM parts JOIN views USING (view) WHERE part IN ({marks})", probes
        )
        nearest = min(
            ((_nearest(picture, int.from_bytes(data, "big")), number) for _, number, data in found), default=None
        )
        if nearest is None or nearest[0] > NEAR:
            return None
        (id,) = self._database.execute("SELECT id FROM records WHERE number = ?", (nearest[1],)).fetchone()
        return Duplicate(id, "picture", nearest[0])

    def _insert(self, id: str, keys: dict[By, bytes], picture: PictureHash) -> None:
        write = self._database.execute
        number = write("INSERT INTO records (id) VALUES (?)", (id,)).lastrowid
        self._database.executemany("INSERT INTO exact VALUES (?, ?)", ((key, number) for key in keys.values()))
        for view in dict.fromkeys(picture[:KEPT]):
            row = write("INSERT INTO views (number, hash) VALUES (?, ?)", (number, view.to_bytes(BITS // 8, "big")))
            parts = _parts(view)
            self._database.executemany("INSERT INTO parts VALUES (?, ?)", ((part, row.lastrowid) for part in parts))
            self._filled.add(parts)

    def _failure(self, error: sqlite3.Error) -> LlavamedError:
        return LlavamedError(
            f"what was seen cannot be kept there: {first_line(error)}",
            where=str(self._file),
            hint="Make room on that disk and repeat the command.",
        )


def normalise_caption(caption: str) -> str:
    """A caption by its words alone: case, punctuation and how accents are encoded do not count."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", caption).casefold())
    return " ".join(words)


def _exact_keys(sha256: str, caption: str | None) -> dict[By, bytes]:
    keys: dict[By, bytes] = {"bytes": b"b" + bytes.fromhex(sha256)}
    words = normalise_caption(caption or "")
    if words.count(" ") + 1 >= MIN_CAPTION_WORDS:
        keys["caption"] = b"c" + hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()
    return keys


def _nearest(picture: PictureHash, other: int) -> int:
    return min(distance(view, other) for view in picture)


def _parts(view: int) -> list[int]:
    """The 21 or 22 bits of each part, with the part's number before them."""
    return [
        part << _WIDEST | view >> shift & (1 << width) - 1
        for part, (width, shift) in enumerate(zip(_WIDTHS, _SHIFTS, strict=True))
    ]


def _probes(picture: PictureHash) -> numpy.ndarray:
    """Each part of each view as it is, and with each one of its bits turned: int64 [number of probes], rising."""
    import numpy

    parts = numpy.array([_parts(view) for view in picture], dtype=numpy.int64)
    turned = numpy.array([0, *(1 << bit for bit in range(_WIDEST))])
    return numpy.unique(parts[..., None] ^ turned)


class _Filled:
    """Which parts occur at all: 6 MiB that save most look-ups while fewer than millions were seen."""

    def __init__(self) -> None:
        import numpy

        self._bits = numpy.zeros((PARTS << _WIDEST) // 8, dtype=numpy.uint8)

    def add(self, parts: list[int]) -> None:
        for part in parts:
            self._bits[part >> 3] |= 1 << (part & 7)

    def of(self, probes: numpy.ndarray) -> list[int]:
        """Those of `probes` that occur."""
        found: list[int] = probes[self._bits[probes >> 3] >> (probes & 7) & 1 == 1].tolist()
        return found
