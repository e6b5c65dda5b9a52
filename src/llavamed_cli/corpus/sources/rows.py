"""Rows of a data set that carry their pictures' bytes: which columns matter, and a batch of rows as figures.

Rows are read in the main process, which streams, and are sent to the workers with their bytes: twice the copying, for
which memory depends neither on the size of a file nor on how it is cut into row groups or shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from llavamed_cli.corpus.pictures import safe_stem
from llavamed_cli.corpus.screening.stages import Rejection, unreadable
from llavamed_cli.corpus.sources.fields import license_name, one_caption, picture_inside, record_name, sentences
from llavamed_cli.corpus.sources.picture_files import PICTURE_ENDINGS
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.hub_data import MAX_PICTURE_BYTES
from llavamed_cli.records import Fault, Figure, Source

if TYPE_CHECKING:
    import pyarrow

ROWS_A_BATCH = 100
BYTES_A_BATCH = 8 * 2**20
IMAGE_NAMES = ("image", "file_name", "img", "picture", "image_path", "filename", "jpg", "png", "jpeg", "webp")
CAPTION_NAMES = ("caption", "text", "captions", "caption_text", "sentences", "description", "txt")
OTHER_NAMES = ("id", "license", "mentions")

Holds = Literal["picture", "bytes", "text", "texts", "else"]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table that are read. several: a row may have several captions."""

    image: str
    caption: str
    several: bool = False
    id: str | None = None
    license: str | None = None
    mentions: str | None = None

    @property
    def names(self) -> list[str]:
        """Those that the table has."""
        named = (self.image, self.caption, self.id, self.license, self.mentions)
        return list(dict.fromkeys(name for name in named if name))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row. number: from 1, in its file. picture: its bytes, or where they lie. ending: of its file's name."""

    number: int
    picture: bytes | Path
    ending: str = ""
    caption: Any = None
    id: Any = None
    license: Any = None
    mentions: Any = None


@dataclass(frozen=True, kw_only=True)
class RowBatch:
    """Some rows of a data set.

    file: what names it in records and messages; stem: begins the id of a row that has none.
    license: of the data set, for rows that state none.
    scratch: a folder where each row's picture lies until the next figure is asked for.
    """

    rows: tuple[Row | Fault, ...]
    kind: str
    file: str
    stem: str
    license: str | None
    scratch: Path

    def read(self) -> Iterator[Figure | Rejection]:
        """Yield the rows' figures in order."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.scratch) as folder:
            for row in self.rows:
                if isinstance(row, Fault):
                    yield unreadable(row)
                    continue
                name = record_name(row.id) or f"{self.stem}-{row.number}"
                try:
                    figure = self._figure(row, name, Path(folder))
                except DataError as error:
                    where = f"{self.file}:{row.number}"
                    yield unreadable(Fault(where=where, reason=error.what, record_id=name))
                    continue
                yield figure
                if isinstance(row.picture, bytes):
                    figure.picture.unlink(missing_ok=True)

    def _figure(self, row: Row, name: str, folder: Path) -> Figure:
        license = license_name(row.license) or self.license
        figure = Figure(
            id=name,
            picture=row.picture if isinstance(row.picture, Path) else folder / f"{safe_stem(name)}{row.ending}",
            caption=one_caption(row.caption),
            source=Source(kind=self.kind, file=self.file, line=row.number, license=license),
            mentions=sentences(row.mentions),
        )
        if isinstance(row.picture, bytes):
            figure.picture.write_bytes(row.picture)
        return figure


def in_batches(rows: Iterable[Row | Fault]) -> Iterator[tuple[Row | Fault, ...]]:
    """Rows in groups of ROWS_A_BATCH, or fewer where their pictures are large."""
    waiting: list[Row | Fault] = []
    size = 0
    for row in rows:
        waiting.append(row)
        size += len(row.picture) if isinstance(row, Row) and isinstance(row.picture, bytes) else 0
        if len(waiting) >= ROWS_A_BATCH or size >= BYTES_A_BATCH:
            yield tuple(waiting)
            waiting, size = [], 0
    if waiting:
        yield tuple(waiting)


def read_row(record: Mapping[str, Any], columns: Columns, number: int, file: str, images: Path | None) -> Row | Fault:
    """A row of a table, its picture as bytes or as a file inside `images`; None: no file may be named."""
    try:
        picture, ending = _picture(record.get(columns.image), images)
    except DataError as error:
        name = record_name(record.get(columns.id)) if columns.id else None
        return Fault(where=f"{file}:{number}", reason=error.what, record_id=name)
    others = {
        name: record.get(column) for name in OTHER_NAMES if (column := getattr(columns, name)) and column in record
    }
    return Row(number=number, picture=picture, ending=ending, caption=record.get(columns.caption), **others)


def picture_ending(name: str) -> str:
    """The ending of a picture's name, if it is one that pictures have."""
    ending = PurePosixPath(name).suffix.lower()
    return ending if ending in (*PICTURE_ENDINGS, ".dcm") else ""


def _picture(value: Any, images: Path | None) -> tuple[bytes | Path, str]:
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, Mapping) else (value, None)
    if isinstance(data, str):
        data, path = None, data
    if isinstance(data, bytes):
        if len(data) > MAX_PICTURE_BYTES:
            raise DataError(f"a picture of {len(data):,} bytes; at most {MAX_PICTURE_BYTES:,} are read")
        return data, picture_ending(path) if isinstance(path, str) else ""
    if data is not None:
        raise DataError(f"a picture must be bytes or a file's name, found {type(data).__name__}")
    if not isinstance(path, str) or not path.strip():
        raise DataError("no picture")
    if images is None:
        raise DataError(f"the picture is named ({path[:200]}) and not given; only local data may name files")
    return picture_inside(images, path), picture_ending(path)


def choose_columns(schema: pyarrow.Schema, wanted: tuple[str | None, str | None], where: str) -> Columns:
    """Find the picture's and the caption's column by type and name, unless `wanted` names them.

    Raises:
        UsageError: none or several could be it; the message lists the columns.
    """
    held = {field.name: _held(field.type) for field in schema}
    for name in wanted:
        if name is not None and name not in held:
            near = get_close_matches(name, held, n=1)
            advice = f"Did you mean {near[0]}?" if near else f"Its columns are: {', '.join(held)}."
            raise UsageError(f"there is no column {name!r}", where=where, hint=advice)
    image = wanted[0] or _only(_could_be_image(held), "image", "--image-column", held, where)
    rest = {name: holds for name, holds in held.items() if name != image}
    caption = wanted[1] or _only(_could_be_caption(rest), "caption", "--caption-column", held, where)
    others = {name: name for name in OTHER_NAMES if name in rest and name != caption}
    return Columns(image=image, caption=caption, several=held[caption] == "texts", **others)


def _could_be_image(held: Mapping[str, Holds]) -> list[str]:
    for holds in ("picture", "bytes"):
        if found := [name for name in held if held[name] == holds]:
            return found
    return [name for name in held if held[name] == "text" and name.lower() in IMAGE_NAMES]


def _could_be_caption(held: Mapping[str, Holds]) -> list[str]:
    texts = [name for name in held if held[name] in ("text", "texts") and name.lower() not in OTHER_NAMES]
    return [name for name in texts if name.lower() in CAPTION_NAMES] or texts


def _only(found: list[str], usual: str, option: str, held: Mapping[str, Holds], where: str) -> str:
    if len(found) == 1:
        return found[0]
    if usual in found:
        return usual
    columns = ", ".join(f"{name} ({holds})" if holds != "else" else name for name, holds in held.items())
    what = f"{', '.join(found)} could each be" if found else "no column looks like"
    raise UsageError(f"{what} the {usual}; the columns are: {columns}", where=where, hint=f"Name it with {option}.")


def _held(type: pyarrow.DataType) -> Holds:
    """What a column holds, by its Arrow type; pictures are structs of bytes and path, as `datasets` stores them."""
    from pyarrow import types

    if types.is_dictionary(type):
        return _held(type.value_type)
    if types.is_string(type) or types.is_large_string(type):
        return "text"
    if types.is_binary(type) or types.is_large_binary(type):
        return "bytes"
    if types.is_list(type) or types.is_large_list(type):
        return "texts" if _held(type.value_type) in ("text", "texts") else "else"
    if types.is_struct(type):
        fields = {field.name: _held(field.type) for field in type.fields}
        if fields.get("bytes") == "bytes" or fields.keys() == {"bytes", "path"}:
            return "picture"
        return "texts" if "text" in fields.values() or "texts" in fields.values() else "else"
    return "else"
