"""What training reads: encoded samples by number, what planning needs to know of them all, and what was set aside."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, overload

from llavamed_cli.errors import DataError
from llavamed_cli.files import write_jsonl
from llavamed_cli.records import Fault
from llavamed_cli.training.example_store import ExampleStore, fault_record
from llavamed_cli.training.picture_check import CheckedPictures
from llavamed_cli.training.store_writer import count_reason

if TYPE_CHECKING:
    import numpy

FAULTS_KEPT = 1000
IDS_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Example:
    """A sample as the model learns from it.

    input_ids: int32 [T], pictures expanded. supervised: bool [T].
    """

    id: str
    input_ids: numpy.ndarray
    supervised: numpy.ndarray
    pictures: tuple[Path, ...]


class ExampleSet(Sequence[Example]):
    """The n samples of a store whose pictures can all be read, in the order of the data.

    lengths: int64 [n], tokens, pictures expanded. supervised: int64 [n], tokens that are learned. picture_counts:
    int64 [n]. picture_keys: int64 [n], the same for samples with the same pictures, -1 for none. prefix_lengths:
    int64 [n], tokens up to and with the last picture, 0 where something is learned before it or there is none.
    set_aside: records left out. faults: the first thousand of them, for a person. reasons: all, counted by kind.
    """

    def __init__(self, store: ExampleStore, pictures: CheckedPictures) -> None:
        import numpy

        self._store = store
        self._checked = pictures
        lost = _lost(store, pictures)
        self._kept, self._lost = numpy.flatnonzero(~lost), numpy.flatnonzero(lost)
        columns = {
            name: numpy.ascontiguousarray(column[self._kept] if len(self._lost) else column)
            for name, column in store.columns.items()
        }
        self.lengths = columns["length"]
        self.supervised = columns["supervised"]
        self.picture_counts = columns["pictures"]
        self.picture_keys = columns["picture_key"]
        self.prefix_lengths = columns["prefix"]
        self.set_aside: int = store.reasons.total() + len(self._lost)
        self.faults: tuple[Fault, ...] = tuple(islice(self._all_faults(), FAULTS_KEPT))

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = self._number(index)
        ids, learned = self._store.tokens(number)
        pictures = tuple(Path(self._store.pictures[one]) for one in self._store.picture_numbers(number))
        return Example(id=self._store.ids[number], input_ids=ids, supervised=learned, pictures=pictures)

    def example_ids(self, indices: Iterable[int]) -> list[str]:
        """The record ids of some samples, to name them by."""
        return [self._store.ids[self._number(index)] for index in indices]

    @property
    def pictures(self) -> int:
        """How many different pictures there are."""
        import numpy

        return len(self._store.pictures) if not len(self._lost) else len(numpy.unique(self._references()))

    @cached_property
    def identity(self) -> str:
        """A SHA-256 of what is learned: tokens, ids, and the pictures' content; where the files lie does not count."""
        digest = hashlib.sha256(self._store.content.encode())
        digest.update(self._kept.astype("<i8").tobytes())
        digest.update(self._checked.records["digest"][self._references()].tobytes())
        return digest.hexdigest()

    @property
    def reasons(self) -> Counter[str]:
        """How many records were set aside for each kind of reason, the commonest first."""
        counted = Counter(self._store.reasons)
        for reason, times in Counter(self._bad_picture(number)[1] for number in self._lost.tolist()).items():
            count_reason(counted, f"picture: {reason}", times)
        return Counter(dict(counted.most_common()))

    def write_faults(self, path: Path) -> int:
        """Write every fault as a line of JSON: where, id, reason. Returns how many there are."""
        return write_jsonl(path, (fault_record(fault) for fault in self._all_faults()))

    def require_pictures(self, indices: Iterable[int]) -> None:
        """See that the pictures of some samples are still what they were when training began; a stat for each.

        Raises:
            DataError: one is gone or has another content; the message names it and the records that show it.
        """
        indices = list(indices)
        looked: set[int] = set()
        for index in indices:
            number = self._number(index)
            for picture in self._store.picture_numbers(number):
                if picture in looked:
                    continue
                looked.add(picture)
                if (what := self._checked.changed(picture)) is not None:
                    raise self._picture_gone(picture, what, indices)

    def _picture_gone(self, picture: int, what: str, indices: Sequence[int]) -> DataError:
        showing = [n for n in map(self._number, indices) if picture in self._store.picture_numbers(n)]
        ids = ", ".join(repr(self._store.ids[number]) for number in showing[:IDS_NAMED])
        more = f" and {len(showing) - IDS_NAMED} more of this step" if len(showing) > IDS_NAMED else ""
        return DataError(
            f"picture {self._store.pictures[picture]} {what} since training began; it belongs to {ids}{more}",
            where=self._store.places[showing[0]],
            hint="Put it back as it was and repeat the command: it goes on from the last checkpoint.",
        )

    def _number(self, index: int) -> int:
        """A sample's number in the store."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return int(self._kept[index])

    def _references(self) -> numpy.ndarray:
        """The numbers of all samples' pictures, one after the other: int64."""
        import numpy

        if not len(self._lost):
            return self._store.references
        owners = numpy.repeat(numpy.arange(len(self._store)), self._store.columns["pictures"])
        kept = numpy.zeros(len(self._store), dtype=bool)
        kept[self._kept] = True
        return self._store.references[kept[owners]]

    def _all_faults(self) -> Iterator[Fault]:
        """Records that could not be encoded, then those whose picture cannot be read."""
        return chain(self._store.faults(), map(self._picture_fault, self._lost.tolist()))

    def _picture_fault(self, number: int) -> Fault:
        path, reason = self._bad_picture(number)
        where, identity = self._store.places[number], self._store.ids[number]
        return Fault(where=where, record_id=identity, reason=f"picture {path}: {reason}")

    def _bad_picture(self, number: int) -> tuple[str, str]:
        """The first unreadable picture of a sample, and what is wrong with it."""
        bad = next(one for one in self._store.picture_numbers(number) if one in self._checked.bad)
        return self._store.pictures[bad], self._checked.bad[bad]


def _lost(store: ExampleStore, pictures: CheckedPictures) -> numpy.ndarray:
    """Which samples have a picture that cannot be read: bool [n]."""
    import numpy

    bad = numpy.zeros(len(store.pictures), dtype=bool)
    bad[list(pictures.bad)] = True
    lost = numpy.zeros(len(store), dtype=bool)
    owners = numpy.repeat(numpy.arange(len(store)), store.columns["pictures"])
    lost[owners[bad[store.references]]] = True
    return lost
