"""Questions in Parquet files, their pictures inside, as the Hugging Face Hub stores data sets; a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.counts import NO_TRAINING_FILE, Counts, counts_note, shared_note
from llavamed_cli.benchmarks.fields import canonical, choose_fields, identity_of, make_question
from llavamed_cli.benchmarks.jsonl import decided
from llavamed_cli.benchmarks.picture_store import PictureStore, content_name
from llavamed_cli.benchmarks.reading import BenchmarkRead, Record, Split, gather
from llavamed_cli.benchmarks.split_files import Part, find_part, holds_part, other_part_notes, part_of, require_part
from llavamed_cli.errors import DataError, UsageError, first_line
from llavamed_cli.records import Fault, Question

ENDINGS = (".parquet",)
ROWS_AT_ONCE = 64


def table_files(place: Path, split: Split, what: str) -> list[Path]:
    """The Parquet files of one split: all of a folder that bear its name, or the one that `place` is.

    Raises:
        UsageError: there is none, or test questions would be learned from.
    """
    if place.is_dir():
        return find_part(place, split, ENDINGS, what)
    require_part(place, split)
    return [place]


def read_tables(
    place: Path,
    store: Path | None,
    split: Split,
    named: Mapping[str, str] | None = None,
    published: Callable[[Part], Counts | None] = lambda _: None,
) -> BenchmarkRead:
    """Read one split's questions.

    Args:
        place: a Parquet file, or a folder of them: "data/test-00000-of-00003.parquet".
        store: where pictures are written; None where they are not needed.
        named: columns that go by names of their own.
        published: how large a part is known to be.

    Raises:
        UsageError: no such file, or its columns cannot be told. DataError: it is no Parquet file.
    """
    files = table_files(place, split, "the benchmark")
    part: Part = part_of(files[0]) or split
    records = [item for file in files for item in _rows(file, named or {}, store)]
    questions, faults = table_questions(records, part)
    notes = [counts_note(questions, published(part), len(faults)), *other_part_notes(files[0].name, part, split)]
    if split == "test":
        notes.append(_overlap(place, part, questions, named or {}))
    return BenchmarkRead(
        questions=questions, faults=tuple(faults), notes=(*notes, *decided(record for _, record in records))
    )


def table_questions(records: Sequence[tuple[str, Record]], part: str) -> tuple[tuple[Question, ...], list[Fault]]:
    """The questions of rows whose pictures are placed; a row without an id is called by its number."""

    def parse(record: Record, identity: str) -> Question:
        if isinstance(record["image"], DataError):
            raise record["image"]
        image, picture = record["image"]
        return make_question(record, identity, image, picture, part=part)

    numbers = iter(range(len(records)))

    def named(record: Record) -> str | None:
        number = next(numbers)
        return identity_of(record) if "id" in record else f"{part}-{number}"

    return gather(records, named, parse)


def placed(record: Mapping[str, Any], store: PictureStore) -> dict[str, Any]:
    """A canonical record with its picture's name and file in place of the bytes, or with what is wrong with it."""
    try:
        return {**record, "image": store.place(record.get("image"))}
    except DataError as error:
        return {**record, "image": error}


def _rows(file: Path, named: Mapping[str, str], folder: Path | None) -> Iterator[tuple[str, Record]]:
    store = PictureStore(folder, images=file.parent)
    for number, row in enumerate(_read(file, named)):
        yield f"{file}, row {number}", placed(canonical(row, named), store)


def _read(file: Path, named: Mapping[str, str], only: str | None = None) -> Iterator[dict[str, Any]]:
    """Every row's known columns, or one field's alone."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file, pre_buffer=False) as table:
            columns = choose_fields(table.schema_arrow.names, named, str(file))
            wanted = [columns[only]] if only else list(dict.fromkeys(columns.values()))
            for part in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=wanted, use_threads=False):
                yield from part.to_pylist()
    except FileNotFoundError as error:
        raise UsageError("no such file", where=str(file)) from error
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"not a readable Parquet file: {first_line(error)}", where=str(file)) from error


def _overlap(place: Path, part: Part, questions: Sequence[Question], named: Mapping[str, str]) -> str:
    """How many test pictures the training files hold, by their bytes."""
    folder = place if place.is_dir() else place.parent
    if part == "train" or not holds_part(folder, "train", ENDINGS):
        return NO_TRAINING_FILE
    files = find_part(folder, "train", ENDINGS, "the benchmark")
    trained = {_name(row) for file in files for row in _read(file, named, only="image")}
    tested = {question.image for question in questions}
    return shared_note(len(tested & trained), len(tested), "by their bytes")


def _name(row: Mapping[str, Any]) -> str:
    value = next(iter(row.values()))
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, Mapping) else (value, value)
    return content_name(data) if isinstance(data, bytes) else str(path)
