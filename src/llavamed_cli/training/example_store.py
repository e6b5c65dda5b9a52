"""Encoded samples on disk, opened to be read: nothing is parsed or tokenised twice, and nothing grows with use.

A picture's tokens are stored as one token, and a token that is learned as its complement (-1 - id): a token takes four
bytes, and a sample a few hundred where unfolded it would take thousands. The price: to read one is to unfold it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llavamed_cli.records import Fault
from llavamed_cli.training.text_table import TextTable, table_files

if TYPE_CHECKING:
    import numpy

FORMAT = 1
HEAD, TOKENS, ROWS, REFERENCES, FAULTS = "store.json", "tokens.bin", "rows.bin", "references.bin", "faults.jsonl"
IDS, PLACES, PICTURES = "ids", "places", "pictures"
COLUMNS = ("start", "stored", "length", "prefix", "supervised", "first_picture", "pictures", "picture_key")
"""What is kept of a sample beside its tokens, eight int64.

start, stored: where its tokens stand in tokens.bin, and how many. length: how many they are with pictures unfolded.
prefix: tokens up to and with the last picture, where nothing before is learned, else 0. supervised: tokens learned.
first_picture, pictures: where its pictures stand in references.bin, and how many. picture_key: the same for samples
with the same pictures, -1 for none.
"""


@dataclass(frozen=True)
class EncodedSample:
    """A sample as it is stored.

    where: `file:line`. tokens: int32 [stored] as bytes, which cross between processes cheaply: a picture is one token,
    a learned token its complement. pictures: paths.
    """

    id: str
    where: str
    tokens: bytes
    length: int
    prefix: int
    supervised: int
    pictures: tuple[str, ...]


class ExampleStore:
    """n encoded samples, their pictures' paths, and the faults of the records that could not be encoded."""

    def __init__(self, folder: Path, head: dict[str, Any]) -> None:
        self.folder = folder
        self.size: int = sum(head["sizes"].values())
        self.content: str = head["content"]
        self.reasons: Counter[str] = Counter(head["reasons"])
        self._image_token: int = head["image_token"]
        self._image_length: int = head["image_length"]
        rows = mapped(folder / ROWS).reshape(-1, len(COLUMNS))
        self.columns: dict[str, numpy.ndarray] = {name: rows[:, place] for place, name in enumerate(COLUMNS)}
        self.references = mapped(folder / REFERENCES)
        self.ids, self.places, self.pictures = (TextTable(folder / name) for name in (IDS, PLACES, PICTURES))
        self._tokens = (folder / TOKENS).open("rb")

    def __len__(self) -> int:
        return len(self.columns["start"])

    def tokens(self, number: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Ids, int32 [T], pictures unfolded; and which of them are learned, bool [T]."""
        import numpy

        start, size = int(self.columns["start"][number]), int(self.columns["stored"][number])
        stored = numpy.frombuffer(os.pread(self._tokens.fileno(), 4 * size, 4 * start), dtype="<i4")
        learned = stored < 0
        ids = numpy.where(learned, ~stored, stored).astype(numpy.int32)
        if self.columns["pictures"][number]:
            times = numpy.where(ids == self._image_token, self._image_length, 1)
            ids, learned = numpy.repeat(ids, times), numpy.repeat(learned, times)
        return ids, learned

    def picture_numbers(self, number: int) -> list[int]:
        """Which of `pictures` a sample is about, in order."""
        first, count = int(self.columns["first_picture"][number]), int(self.columns["pictures"][number])
        numbers: list[int] = self.references[first : first + count].tolist()
        return numbers

    def faults(self) -> Iterator[Fault]:
        """Why records were set aside, in the order they were read."""
        with (self.folder / FAULTS).open(encoding="utf-8") as stream:
            for line in stream:
                told = json.loads(line)
                yield Fault(where=told["where"], reason=told["reason"], record_id=told["id"])


def open_store(folder: Path) -> ExampleStore | None:
    """The store at `folder`; None where there is none, or one that is torn or of another format."""
    try:
        head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
        if head["format"] != FORMAT or written_sizes(folder) != head["sizes"]:
            return None
        store = ExampleStore(folder, head)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):  # another user's store may be read all the same
        os.utime(folder / HEAD)  # when it was last wanted
    return store


def written_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file of a store that is written once."""
    tables = [file for name in (IDS, PLACES, PICTURES) for file in table_files(folder / name)]
    files = [*(folder / name for name in (TOKENS, ROWS, REFERENCES, FAULTS)), *tables]
    return {file.name: file.stat().st_size for file in files}


def mapped(path: Path, mode: Literal["r", "r+"] = "r") -> numpy.ndarray:
    """A file of int64 as an array in mapped memory; an empty file has none to map."""
    import numpy

    if not path.stat().st_size:
        return numpy.zeros(0, dtype="<i8")
    return numpy.asarray(numpy.memmap(path, dtype="<i8", mode=mode))


def fault_record(fault: Fault) -> dict[str, Any]:
    """A fault as it stands in a file of faults."""
    return {"where": fault.where, "id": fault.record_id, "reason": fault.reason}
