"""Training data on the way in: records become token ids and masks; faults are collected before step one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.conversation_format import read_samples
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.model.chat import ChatFormat, picture_first
from llavamed_cli.model.images import unreadable_pictures
from llavamed_cli.progress import Progress
from llavamed_cli.records import Fault, Sample

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of samples, and the folder that its picture names are relative to."""

    path: Path
    images: Path


@dataclass(frozen=True, kw_only=True)
class Example:
    """A sample as the model learns from it.

    input_ids: int32 [T], pictures expanded. supervised: bool [T].
    """

    id: str
    input_ids: numpy.ndarray
    supervised: numpy.ndarray
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class ExampleSet:
    """What can be learned from, and what was set aside."""

    examples: tuple[Example, ...]
    faults: tuple[Fault, ...]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(example.input_ids) for example in self.examples]


def find_data(places: Sequence[Path], stage_file: str, images: Path | None) -> list[DataFile]:
    """Resolve DATA arguments: a build-data folder (its `stage_file`), or a JSON or JSONL file.

    A file's pictures lie in `images` where given, else in `images/` beside it, else beside it.
    """
    found = []
    for place in places:
        if place.is_dir():
            if not (place / stage_file).is_file():
                raise UsageError(f"the folder has no {stage_file}", where=str(place), hint="Make one with build-data.")
            found.append(DataFile(path=place / stage_file, images=place / "images"))
            continue
        if not place.is_file():
            raise UsageError("no such data file or folder", where=str(place))
        beside = place.parent / "images"
        found.append(DataFile(path=place, images=images or (beside if beside.is_dir() else place.parent)))
    return found


def read_examples(
    files: Sequence[DataFile], chat: ChatFormat, *, image_length: int, context: int, progress: Progress
) -> ExampleSet:
    """Read, check and encode every sample, and open every picture once, so that no fault waits for step 10,000.

    Args:
        image_length: tokens of a picture. context: the most tokens the model can read.
    """
    faults: list[Fault] = []
    found: list[tuple[str, Sample, DataFile]] = []
    for file in files:
        found += [(where, sample, file) for where, sample in read_samples(file.path, faults.append)]
    pictures = {_picture(file, name) for _, sample, file in found for name in sample.images}
    bad = unreadable_pictures(pictures, "opening pictures", progress)
    examples: list[Example] = []
    with progress.bar("encoding samples", len(found)) as bar:
        for where, sample, file in found:
            bar.advance()
            try:
                examples.append(_encode(sample, file, chat, image_length, context, bad))
            except DataError as error:
                faults.append(Fault(where=where, record_id=sample.id, reason=error.what))
    return ExampleSet(tuple(examples), tuple(faults))


def _encode(
    sample: Sample, file: DataFile, chat: ChatFormat, image_length: int, context: int, bad: dict[Path, str]
) -> Example:
    import numpy

    pictures = tuple(_picture(file, name) for name in sample.images)
    broken = next((path for path in pictures if path in bad), None)
    if broken is not None:
        raise DataError(f"picture {broken}: {bad[broken]}")
    encoded = chat.encode([picture_first(turn) for turn in sample.turns], [image_length] * len(pictures))
    if len(encoded.input_ids) > context:
        raise DataError(f"{len(encoded.input_ids)} tokens, more than the model's context of {context}")
    return Example(
        id=sample.id,
        input_ids=numpy.asarray(encoded.input_ids, dtype=numpy.int32),
        supervised=numpy.asarray(encoded.supervised, dtype=bool),
        pictures=pictures,
    )


def _picture(file: DataFile, name: str) -> Path:
    """A record's picture. Names may not leave the picture folder: data files come from strangers."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        return file.images / "_outside_the_picture_folder_" / path.name
    return file.images / path


def show_sample(example: Example, decode: Callable[[list[int]], str]) -> list[tuple[str, bool]]:
    """An example as pieces of text, each supervised or not, in order; a picture's tokens are one piece."""
    pieces: list[tuple[str, bool]] = []
    start = 0
    flags = example.supervised
    for index in range(1, len(flags) + 1):
        if index == len(flags) or flags[index] != flags[start]:
            pieces.append((decode(example.input_ids[start:index].tolist()), bool(flags[start])))
            start = index
    return pieces
