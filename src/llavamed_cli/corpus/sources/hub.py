"""Figures from a data set of the Hugging Face Hub, or a local folder laid out like one, streamed by `datasets`.

Nothing is downloaded whole, and no code of a data set is ever run (`datasets` 4 gave that up). The Hub's token is
`datasets`' own affair: it is never read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.corpus.batches import Batch
from llavamed_cli.corpus.sources.cards import folder_license, stated_license
from llavamed_cli.corpus.sources.rows import (
    MAX_PICTURE_BYTES,
    Columns,
    Row,
    RowBatch,
    choose_columns,
    in_batches,
    picture_ending,
    read_row,
)
from llavamed_cli.errors import DataError, FetchError, LlavamedError, UsageError
from llavamed_cli.progress import Progress
from llavamed_cli.records import Fault

if TYPE_CHECKING:
    import pyarrow

USUAL_SPLIT = "train"
LONGEST_TOLD = 300
SYNTAX = "It looks like hub:owner/name, hub:owner/name@revision:split, hub:owner/name:config:split or hub:FOLDER."

_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?")
_PART = re.compile(r"[\w.-]+")
_QUERY = re.compile(r"\?\S+")


@dataclass(frozen=True)
class HubName:
    """What follows `hub:`. name: on the Hub, or a folder."""

    name: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    @property
    def folder(self) -> Path | None:
        """The local folder it is, if it is one."""
        return Path(self.name) if Path(self.name).is_dir() else None


def parse_hub_name(text: str) -> HubName:
    """Read `owner/name`, with `@revision` and `:split` or `:config:split` behind it, or a folder.

    Raises:
        UsageError: anything else.
    """
    name, parts = text, list[str]()
    while ":" in name and not Path(name).is_dir():
        name, _, part = name.rpartition(":")
        parts.insert(0, part)
    revision = None
    if "@" in name and not Path(name).is_dir():
        name, _, revision = name.partition("@")
    known = name and (Path(name).is_dir() or _NAME.fullmatch(name))
    if not known or revision == "" or len(parts) > 2 or not all(map(_PART.fullmatch, parts)):
        raise UsageError("no name of a data set", where=f"hub:{text}", hint=SYNTAX)
    return HubName(name, revision, config=parts[0] if len(parts) == 2 else None, split=parts[-1] if parts else None)


def hub_batches(
    name: HubName, columns: tuple[str | None, str | None], scratch: Path, progress: Progress
) -> Iterator[Batch]:
    """Yield the rows of one split of a data set.

    Args:
        columns: the picture's and the caption's, where they are known.

    Raises:
        UsageError: no such data set, split or column, or several that could be meant.
        DataError: `datasets` cannot read it, or asks which configuration is meant.
        FetchError: the Hub does not serve, at once or in the middle.
    """
    source = _open(name, columns)
    if source.columns.several:
        progress.note(f"{source.where}: {source.columns.caption} may hold several captions; the first is taken")
    license = _license(name, progress)
    stem = f"{Path(name.name).name}-{source.split}"
    for group in in_batches(source.rows()):
        yield RowBatch(rows=group, kind="hub", file=source.where, stem=stem, license=license, scratch=scratch)


@dataclass(frozen=True)
class _Split:
    """One split, opened. records: with pictures as they are stored."""

    name: HubName
    split: str
    columns: Columns
    records: Any

    @property
    def where(self) -> str:
        revision = f"@{self.name.revision}" if self.name.revision else ""
        return f"hub:{self.name.name}{revision}:{self.split}"

    def rows(self) -> Iterator[Row | Fault]:
        folder = self.name.folder
        number = 0
        try:
            for record in self.records:
                number += 1
                yield read_row(self._fetched(record), self.columns, number, self.where, folder)
        except Exception as error:  # whatever a data set's files and the network between lead to
            raise _told(error, f"{self.where}, row {number + 1}") from error

    def _fetched(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record with the bytes of a picture that lies as a file of its own in the data set's repository."""
        value = record.get(self.columns.image)
        path = value.get("path") if isinstance(value, Mapping) and value.get("bytes") is None else None
        if self.name.folder is not None or not isinstance(path, str):
            return record
        *_, store = path.split("::")
        if not store.startswith(f"hf://datasets/{self.name.name}@"):
            return record  # names a file of somebody else's: read_row refuses it
        return {**record, self.columns.image: {"bytes": _remote_bytes(path), "path": f"x{picture_ending(path)}"}}


def _open(name: HubName, columns: tuple[str | None, str | None]) -> _Split:
    import datasets

    datasets.disable_progress_bars()
    where = f"hub:{name.name}"
    try:
        splits = datasets.load_dataset(name.name, name.config, revision=name.revision, streaming=True)
    except Exception as error:
        raise _told(error, where) from error
    split = _choose_split(name, list(splits), where)
    records = splits[split]
    if records.features is None:  # told only by its first row
        records, schema = _peeked(records, where)
        return _Split(name, split, choose_columns(schema, columns, f"{where}:{split}"), records)
    chosen = choose_columns(records.features.arrow_schema, columns, f"{where}:{split}")
    records = records.select_columns(chosen.names)
    if isinstance(records.features[chosen.image], datasets.Image):
        records = records.cast_column(chosen.image, datasets.Image(decode=False))
    return _Split(name, split, chosen, records)


def _peeked(records: Any, where: str) -> tuple[Any, pyarrow.Schema]:
    """The records, and the columns that the first one shows."""
    import pyarrow

    try:
        stream = iter(records)
        first = next(stream, None)
        if first is None:
            raise UsageError("the data set is empty", where=where)
        return chain([first], stream), pyarrow.Table.from_pylist([first]).schema
    except (OSError, pyarrow.ArrowException) as error:
        raise _told(error, where) from error


def _choose_split(name: HubName, splits: list[str], where: str) -> str:
    wanted = name.split or (splits[0] if len(splits) == 1 else USUAL_SPLIT)
    if wanted in splits:
        return wanted
    raise UsageError(
        f"there is no split {wanted!r}; it has: {', '.join(splits)}", where=where, hint=f"Name one. {SYNTAX}"
    )


def _license(name: HubName, progress: Progress) -> str | None:
    """What the data set's card states."""
    if name.folder is not None:
        return folder_license(name.folder)
    from huggingface_hub import HfApi

    try:
        card = HfApi().dataset_info(name.name, revision=name.revision).card_data
    except Exception as error:  # the rows may be served from a mirror or a cache without it
        progress.note(f"the licence of hub:{name.name} cannot be asked for: {_clean(error)}")
        return None
    return stated_license(card.get("license")) if card else None


def _remote_bytes(path: str) -> bytes:
    import fsspec

    with fsspec.open(path, "rb") as stream:
        data: bytes = stream.read(MAX_PICTURE_BYTES + 1)
        return data


def _told(error: Exception, where: str) -> Exception:
    """An error of `datasets` as one of ours."""
    if isinstance(error, LlavamedError):
        return error
    if isinstance(error, FileNotFoundError):  # no such data set, one that asks for a login, or a folder without data
        return UsageError(_clean(error), where=where, hint=SYNTAX)
    if isinstance(error, OSError):
        return FetchError(_clean(error), where=where, hint="Repeat the command later.")
    return DataError(f"`datasets` cannot read it: {_clean(error)}", where=where, hint=SYNTAX)


def _clean(error: Exception) -> str:
    """What an error says, without the queries of addresses, in which signatures stand."""
    return _QUERY.sub("", " ".join(str(error).split()))[:LONGEST_TOLD] or type(error).__name__
