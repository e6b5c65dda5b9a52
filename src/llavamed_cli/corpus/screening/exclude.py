"""Pictures that must not be in the data set, because a benchmark tests on them: `--exclude`, by bytes and by hash.

A folder or a picture is excluded as it is; of a benchmark that is named (slake:DIR), the pictures it tests on.

The benchmark's own pictures are read once, whatever they are; what cannot be read is told, so that nobody believes it
excluded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.benchmarks.open_benchmark import FILES, parse_benchmark, picture_folder, read_benchmark
from llavamed_cli.corpus.screening.deduplicate import Duplicate, Seen
from llavamed_cli.corpus.screening.picture_hash import PictureHash, hash_picture
from llavamed_cli.corpus.sources.picture_files import PICTURE_ENDINGS
from llavamed_cli.errors import PictureError, UsageError
from llavamed_cli.files import file_sha256
from llavamed_cli.model.images import open_picture
from llavamed_cli.progress import Progress
from llavamed_cli.records import Fault

if TYPE_CHECKING:
    from typing_extensions import Self

ENDINGS = (*PICTURE_ENDINGS, ".dcm", ".dicom")


@dataclass(frozen=True)
class Excluded:
    """The pictures of benchmarks. count: those that were read; faults: those that could not be."""

    count: int
    faults: tuple[Fault, ...]
    _seen: Seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._seen.close()

    def find(self, sha256: str, picture: PictureHash) -> Duplicate | None:
        """The benchmark's picture that this one is, by its path, if it is any."""
        return self._seen.find(sha256, picture, None)


def read_excluded(places: Sequence[Path], scratch: Path, progress: Progress) -> Excluded:
    """Read the pictures of every folder, at any depth, or file. scratch: a file that is written over.

    Raises:
        UsageError: a place that is absent, or in which no picture can be read.
    """
    found = [(place, list(_pictures(place))) for place in places]
    seen, faults, count = Seen(scratch), list[Fault](), 0
    with progress.bar("pictures to exclude", total=sum(len(pictures) for _, pictures in found)) as bar:
        for place, pictures in found:
            readable = 0
            for picture in pictures:
                bar.advance()
                try:
                    seen.add(str(picture), file_sha256(picture), hash_picture(open_picture(picture)), None)
                    readable += 1
                except PictureError as error:
                    faults.append(Fault(where=str(picture), reason=error.what))
            if not readable:
                raise UsageError("no picture in it can be read", where=str(place), hint="Check --exclude.")
            count += readable
    if faults:
        progress.note(f"{len(faults):,} picture(s) to exclude cannot be read, so they are not looked for: {faults[0]}")
    return Excluded(count, tuple(faults), seen)


def _pictures(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        files = sorted(place.rglob("*"))
        yield from (file for file in files if file.suffix.lower() in ENDINGS and file.is_file())
    elif str(place).partition(":")[0] in FILES:
        yield from _tested(str(place))
    else:
        raise UsageError("no such folder or picture", where=str(place), hint="Check --exclude.")


def _tested(text: str) -> list[Path]:
    """The pictures that a benchmark's test questions are about. Raises UsageError, DataError as its reader does."""
    name = parse_benchmark(text)
    if name.file is None:
        raise UsageError("these pictures lie in tables: give a folder of them", where=text, hint="Check --exclude.")
    read = read_benchmark(name, pictures=picture_folder(name, None), split="test", seed=0)
    return sorted({question.picture for question in read.questions})
