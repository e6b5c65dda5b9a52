"""Figures from pairs as people keep them: JSON Lines, CSV or TSV, or a folder with a .txt beside each picture.

A record names its picture under `image` (or `file_name`, as Hugging Face's image folders do) and its caption under
`caption` (or `text`); `id`, `license` and `mentions` may be given. Pictures are sought in --images, else beside the
file.
"""

from __future__ import annotations

import csv
import os.path
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.licenses import normalise_license
from llavamed_cli.corpus.sentences import split_sentences
from llavamed_cli.corpus.sources.jats import PICTURE_ENDINGS, OnFault
from llavamed_cli.errors import DataError
from llavamed_cli.files import read_jsonl, require_file
from llavamed_cli.records import Fault, Figure, Source

JSONL_ENDINGS = (".jsonl", ".ndjson")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
IMAGE_KEYS = ("image", "file_name")
CAPTION_KEYS = ("caption", "text")


def read_pairs(source: Path, images: Path | None, on_fault: OnFault) -> Iterator[Figure]:
    """Yield the pairs of a JSON Lines, CSV or TSV file, or of a folder.

    on_fault: is told of every record that cannot be read, with its line.

    Raises:
        UsageError: the file is absent. DataError: a table without the columns, or that is no text.
    """
    if source.is_dir():
        yield from _read_folder(source, on_fault)
        return
    records = read_jsonl(source, on_fault) if source.suffix.lower() in JSONL_ENDINGS else _read_table(source, on_fault)
    for line, record in records:
        try:
            yield _figure(record, images or source.parent, source, line)
        except DataError as error:
            identity = record.get("id")
            name = None if identity in (None, "") else str(identity)
            on_fault(Fault(where=f"{source}:{line}", reason=error.what, record_id=name))


def holds_pairs(folder: Path) -> bool:
    """Whether any picture in a folder, at any depth, has a .txt beside it."""
    return any(file.with_suffix(".txt").is_file() for file in _pictures(folder))


def _figure(record: Mapping[str, Any], images: Path, source: Path, line: int) -> Figure:
    image = _text_under(record, IMAGE_KEYS)
    caption = _text_under(record, CAPTION_KEYS, may_be_empty=True)
    license = record.get("license")
    if license is not None and not isinstance(license, str):
        raise DataError(f"`license` must be text, found {type(license).__name__}")
    identity = record.get("id")
    return Figure(
        id=str(identity) if identity not in (None, "") else f"{source.stem}-{line}",
        picture=_inside(images, image),
        caption=" ".join(caption.split()),
        source=Source(
            kind="pairs",
            file=str(source),
            line=line,
            license=(normalise_license(license) or " ".join(license.split()) or None) if license else None,
        ),
        mentions=_mentions(record.get("mentions")),
    )


def _text_under(record: Mapping[str, Any], keys: tuple[str, ...], *, may_be_empty: bool = False) -> str:
    for key in keys:
        value = record.get(key)
        if isinstance(value, str) and (value.strip() or may_be_empty):
            return value
        if value is not None and not isinstance(value, str):
            raise DataError(f"`{key}` must be text, found {type(value).__name__}")
    raise DataError(f"no {' or '.join(f'`{key}`' for key in keys)}")


def _mentions(value: Any) -> tuple[str, ...]:
    """A list of sentences, or one text that is split into them."""
    if value is None:
        return ()
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise DataError("`mentions` must be a text or a list of texts")
    return tuple(sentence for text in texts for sentence in split_sentences(" ".join(text.split())))


def _inside(images: Path, name: str) -> Path:
    """The picture a record names, which must lie in `images`: data from elsewhere must not reach other files.

    Links are followed, as the caches of hub clients need: a data file cannot make them.
    """
    if "\0" in name:
        raise DataError("the picture's name holds a zero byte")
    path = Path(os.path.normpath(images / name.strip()))
    if not path.is_relative_to(os.path.normpath(images)):
        raise DataError(f"picture {name!r} lies outside {images}: give the folder that holds it as --images")
    return path


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


def _read_folder(folder: Path, on_fault: OnFault) -> Iterator[Figure]:
    for picture in _pictures(folder):
        sidecar = picture.with_suffix(".txt")
        name = picture.relative_to(folder).with_suffix("").as_posix()
        try:
            if not sidecar.is_file():
                raise DataError(f"no {sidecar.name} beside this picture")
            caption = sidecar.read_text(encoding="utf-8-sig")
        except (DataError, UnicodeDecodeError) as error:
            reason = error.what if isinstance(error, DataError) else f"{sidecar.name} is not UTF-8 text"
            on_fault(Fault(where=str(picture), reason=reason, record_id=name))
            continue
        source = Source(kind="pairs", file=str(sidecar))
        yield Figure(id=name, picture=picture, caption=" ".join(caption.split()), source=source)


def _pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, at any depth, hidden ones left out."""
    files = (file for file in folder.rglob("*") if file.suffix.lower() in PICTURE_ENDINGS and file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))
