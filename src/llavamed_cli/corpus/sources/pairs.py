"""Figures from pairs as people keep them: JSON Lines, CSV or TSV, or a folder with a .txt beside each picture.

A record names its picture under `image` (or `file_name`, as Hugging Face's image folders do) and its caption under
`caption` (or `text`); `id`, `license` and `mentions` may be given. Pictures are sought in --images, else beside the
file. The file is read once, in the order of its lines; what a batch of lines means is found out where it is screened.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.batches import Batch
from llavamed_cli.corpus.screening.stages import Rejection, unreadable
from llavamed_cli.corpus.sources.article_folders import OnFault, walk
from llavamed_cli.corpus.sources.fields import (
    CAPTION_KEYS,
    IMAGE_KEYS,
    license_name,
    picture_inside,
    record_name,
    sentences,
)
from llavamed_cli.corpus.sources.picture_files import PICTURE_ENDINGS
from llavamed_cli.errors import DataError
from llavamed_cli.files import read_jsonl, require_file
from llavamed_cli.records import Fault, Figure, Source

JSONL_ENDINGS = (".jsonl", ".ndjson")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
RECORDS_A_BATCH = 500

Record = tuple[int, Mapping[str, Any]]
"""A line's number, and what stands in it."""


def pair_batches(source: Path, images: Path | None) -> Iterator[Batch]:
    """Yield the pairs of a JSON Lines, CSV or TSV file, or of a folder, RECORDS_A_BATCH at a time.

    Raises:
        UsageError: the file is absent. DataError: a table without the columns, or that is no text.
    """
    if source.is_dir():
        yield from _folder_batches(source)
        return
    waiting: list[Record | Fault] = []
    read = read_jsonl if source.suffix.lower() in JSONL_ENDINGS else _read_table
    for record in read(source, waiting.append):
        waiting.append(record)
        if len(waiting) >= RECORDS_A_BATCH:
            yield PairBatch(source, images or source.parent, tuple(waiting))
            waiting.clear()
    if waiting:
        yield PairBatch(source, images or source.parent, tuple(waiting))


@dataclass(frozen=True)
class PairBatch:
    """Some lines of a file. images: the folder that its pictures must lie in."""

    source: Path
    images: Path
    records: tuple[Record | Fault, ...]

    def read(self) -> Iterator[Figure | Rejection]:
        """Yield the pairs in the order of their lines."""
        for record in self.records:
            if isinstance(record, Fault):
                yield unreadable(record)
                continue
            line, fields = record
            try:
                yield _figure(fields, self.images, self.source, line)
            except DataError as error:
                name = record_name(fields.get("id"))
                yield unreadable(Fault(where=f"{self.source}:{line}", reason=error.what, record_id=name))


@dataclass(frozen=True)
class FolderBatch:
    """Some pictures of a folder that have, or should have, a .txt beside them. root: what their ids are relative to."""

    root: Path
    pictures: tuple[Path, ...]

    def read(self) -> Iterator[Figure | Rejection]:
        """Yield each picture with the text beside it."""
        for picture in self.pictures:
            sidecar = picture.with_suffix(".txt")
            name = picture.relative_to(self.root).with_suffix("").as_posix()
            try:
                caption = _read_sidecar(sidecar)
            except DataError as error:
                yield unreadable(Fault(where=str(picture), reason=error.what, record_id=name))
                continue
            source = Source(kind="pairs", file=str(sidecar))
            yield Figure(id=name, picture=picture, caption=" ".join(caption.split()), source=source)


def holds_pairs(folder: Path) -> bool:
    """Whether any picture in a folder, at any depth, has a .txt beside it."""
    return any(
        (place / name).with_suffix(".txt").is_file()
        for place, names in walk(folder, PICTURE_ENDINGS, lambda fault: None)
        for name in names
    )


def _figure(record: Mapping[str, Any], images: Path, source: Path, line: int) -> Figure:
    image = _text_under(record, IMAGE_KEYS)
    caption = _text_under(record, CAPTION_KEYS, may_be_empty=True)
    license = license_name(record.get("license"))
    return Figure(
        id=record_name(record.get("id")) or f"{source.stem}-{line}",
        picture=picture_inside(images, image),
        caption=" ".join(caption.split()),
        source=Source(kind="pairs", file=str(source), line=line, license=license),
        mentions=sentences(record.get("mentions")),
    )


def _text_under(record: Mapping[str, Any], keys: tuple[str, ...], *, may_be_empty: bool = False) -> str:
    for key in keys:
        value = record.get(key)
        if isinstance(value, str) and (value.strip() or may_be_empty):
            return value
        if value is not None and not isinstance(value, str):
            raise DataError(f"`{key}` must be text, found {type(value).__name__}")
    raise DataError(f"no {' or '.join(f'`{key}`' for key in keys)}")


def _read_table(source: Path, on_fault: OnFault) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a CSV or TSV file with a header, with the line each ends on."""
    try:
        with require_file(source, "table of pairs").open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, delimiter=DELIMITERS[source.suffix.lower()], strict=True)
            _check_header(source, rows.fieldnames)
            while True:
                try:
                    row = next(rows, None)
                    if row is None:
                        return
                    if None in row:
                        raise csv.Error("more fields than the header has columns; is a text with a comma not quoted?")
                except csv.Error as error:
                    on_fault(Fault(where=f"{source}:{rows.reader.line_num}", reason=str(error)))
                    continue
                yield rows.line_num, row
    except UnicodeDecodeError as error:
        hint = "Save it as UTF-8 and try again."
        raise DataError("the table is not UTF-8 text", where=str(source), hint=hint) from error


def _check_header(source: Path, columns: Any) -> None:
    names = list(columns or ())
    for keys in (IMAGE_KEYS, CAPTION_KEYS):
        if not any(key in names for key in keys):
            found = ", ".join(map(str, names)) or "none"
            raise DataError(
                f"no column {' or '.join(keys)}; the columns are: {found}",
                where=f"{source}:1",
                hint="The first line must name the columns, e.g. image,caption.",
            )


def _folder_batches(folder: Path) -> Iterator[Batch]:
    unlisted: list[Fault] = []
    for place, names in walk(folder, PICTURE_ENDINGS, unlisted.append):
        pictures = [place / name for name in names if not name.startswith(".")]
        for start in range(0, len(pictures), RECORDS_A_BATCH):
            yield FolderBatch(folder, tuple(pictures[start : start + RECORDS_A_BATCH]))
    if unlisted:
        yield PairBatch(folder, folder, tuple(unlisted))


def _read_sidecar(sidecar: Path) -> str:
    if not sidecar.is_file():
        raise DataError(f"no {sidecar.name} beside this picture")
    try:
        return sidecar.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{sidecar.name} is not UTF-8 text") from error
