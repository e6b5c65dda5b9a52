"""Figures from WebDataset shards: tar files in which `key.jpg` stands beside `key.txt` or `key.json`.

A shard is read forwards once, a sample at a time, and is as hostile as any archive: what follows a bad member is set
aside. (WebDataset's own format: the files of a sample follow one another and share their name up to its first dot.)
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.batches import Batch
from llavamed_cli.corpus.sources.article_folders import walk
from llavamed_cli.corpus.sources.cards import folder_license
from llavamed_cli.corpus.sources.fields import CAPTION_KEYS
from llavamed_cli.corpus.sources.hostile_tar import member_path, open_tar
from llavamed_cli.corpus.sources.picture_files import PICTURE_ENDINGS
from llavamed_cli.corpus.sources.rows import Row, RowBatch, in_batches
from llavamed_cli.errors import DataError, first_line
from llavamed_cli.hub_data import MAX_PICTURE_BYTES
from llavamed_cli.records import Fault

ENDINGS = (".tar",)
TEXT_ENDINGS = (".txt", ".caption", ".text")
JSON_ENDINGS = (".json",)
MAX_TEXT_BYTES = 2**22
JSON_CAPTION_KEYS = (*CAPTION_KEYS, "captions")


def holds_shards(folder: Path) -> bool:
    """Whether a folder, at any depth, holds a shard."""
    return any(True for _ in walk(folder, ENDINGS, lambda fault: None))


def shard_batches(source: Path, scratch: Path) -> Iterator[Batch]:
    """Yield the samples of a shard, or of all in a folder. A shard that cannot be read is set aside."""
    folder = source if source.is_dir() else source.parent
    license = folder_license(folder)
    unlisted: list[Fault] = []
    for place, names in walk(source, ENDINGS, unlisted.append):
        for name in names:
            file = place / name
            stem = file.relative_to(folder).with_suffix("").as_posix()
            for group in in_batches(_rows(file)):
                yield RowBatch(rows=group, kind="pairs", file=str(file), stem=stem, license=license, scratch=scratch)
    if unlisted:
        yield RowBatch(
            rows=tuple(unlisted), kind="pairs", file=str(source), stem=source.stem, license=None, scratch=scratch
        )


@dataclass
class _Sample:
    """The files of one sample so far."""

    key: str
    number: int
    picture: bytes | None = None
    ending: str = ""
    text: bytes | None = None
    record: bytes | None = None
    faults: list[str] = field(default_factory=list)

    def row(self, file: Path) -> Row | Fault:
        try:
            return self._row()
        except DataError as error:
            return Fault(where=f"{file}:{self.number}", reason=error.what, record_id=self.key)

    def _row(self) -> Row:
        if self.faults:
            raise DataError(self.faults[0])
        if self.picture is None:
            raise DataError("no picture in this sample")
        record = _parsed(self.record) if self.record is not None else {}
        caption = next((record[key] for key in JSON_CAPTION_KEYS if record.get(key)), None)
        if self.text is not None:
            try:
                caption = self.text.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise DataError("its caption is not UTF-8 text") from error
        return Row(
            number=self.number,
            picture=self.picture,
            ending=self.ending,
            caption=caption,
            id=record.get("id") or self.key,
            license=record.get("license"),
            mentions=record.get("mentions"),
        )

    def add(self, ending: str, size: int, read: Any) -> None:
        is_picture = ending in PICTURE_ENDINGS
        if not is_picture and ending not in (*TEXT_ENDINGS, *JSON_ENDINGS):
            return
        if size > (MAX_PICTURE_BYTES if is_picture else MAX_TEXT_BYTES):
            self.faults.append(f"its {ending} has {size:,} bytes, more than are ever read")
        elif is_picture:
            self.picture, self.ending = self.picture or read(), self.ending or ending
        elif ending in JSON_ENDINGS:
            self.record = read()
        else:
            self.text = read()


def _rows(file: Path) -> Iterator[Row | Fault]:
    sample: _Sample | None = None
    number = 0
    try:
        with file.open("rb") as stream, open_tar(stream) as members:
            for member in members:
                members.__dict__["members"] = []  # tarfile remembers every header
                path = member_path(member)
                if path is None or path.name.startswith("."):
                    continue
                stem, dot, endings = path.name.partition(".")
                key = (path.parent / stem).as_posix()
                if sample is None or key != sample.key:
                    if sample is not None:
                        yield sample.row(file)
                    number += 1
                    sample = _Sample(key, number)
                sample.add(dot + endings.lower(), member.size, _reader(members, member))
        if sample is not None:
            yield sample.row(file)
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        yield Fault(where=f"{file}:{max(number, 1)}", reason=f"not a readable .tar: {first_line(error)}")
    except DataError as error:
        yield Fault(where=f"{file}:{max(number, 1)}", reason=error.what)


def _reader(members: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    def read() -> bytes:
        stream = members.extractfile(member)
        assert stream is not None  # a plain file, by member_path
        data = stream.read()
        if len(data) != member.size:
            raise tarfile.ReadError("unexpected end of data")
        return data

    return read


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError("its .json is not JSON") from error
    if not isinstance(record, dict):
        raise DataError(f"its .json must be an object, found {type(record).__name__}")
    return record
