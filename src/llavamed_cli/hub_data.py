"""A data set of the Hugging Face Hub, or a local folder laid out like one, named and streamed by `datasets`.

Nothing is downloaded whole, and no code of a data set is ever run (`datasets` 4 gave that up). The Hub's token is
`datasets`' own affair: it is never read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import DataError, FetchError, LlavamedError, UsageError

if TYPE_CHECKING:
    import pyarrow

USUAL_SPLIT = "train"
MAX_PICTURE_BYTES = 2**28
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

    @property
    def where(self) -> str:
        """What names it in messages."""
        return f"hub:{self.name}"

    def where_split(self, split: str) -> str:
        """What names one split of it in records and messages."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"hub:{self.name}{revision}:{split}"


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


def open_split(name: HubName, usual: str = USUAL_SPLIT) -> tuple[str, Any]:
    """The split that is meant, and its records, streamed. usual: which one is, where none is named.

    Raises:
        UsageError: no such data set or split. DataError: `datasets` cannot read it, or asks which configuration is
            meant. FetchError: the Hub does not serve.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        splits = datasets.load_dataset(name.name, name.config, revision=name.revision, streaming=True)
    except Exception as error:
        raise told(error, name.where) from error
    split = _choose_split(name, list(splits), usual)
    return split, splits[split]


def peeked(records: Any, where: str) -> tuple[Any, pyarrow.Schema]:
    """The records, and the columns that the first one shows: for those whose features are not told."""
    import pyarrow

    try:
        stream = iter(records)
        first = next(stream, None)
        if first is None:
            raise UsageError("the data set is empty", where=where)
        return chain([first], stream), pyarrow.Table.from_pylist([first]).schema
    except (OSError, pyarrow.ArrowException) as error:
        raise told(error, where) from error


def undecoded(records: Any, image: str) -> Any:
    """The records with the pictures of a column as they are stored."""
    import datasets

    if isinstance(records.features[image], datasets.Image):
        return records.cast_column(image, datasets.Image(decode=False))
    return records


def fetched(record: Mapping[str, Any], image: str, name: HubName) -> Mapping[str, Any]:
    """The record with the bytes of a picture that lies as a file of its own in the data set's repository.

    One that names a file of somebody else's is left as it is: it has no bytes.
    """
    value = record.get(image)
    path = value.get("path") if isinstance(value, Mapping) and value.get("bytes") is None else None
    if name.folder is not None or not isinstance(path, str):
        return record
    *_, store = path.split("::")
    if not store.startswith(f"hf://datasets/{name.name}@"):
        return record
    return {**record, image: {"bytes": remote_bytes(path), "path": f"x{Path(path).suffix}"}}


def remote_bytes(path: str) -> bytes:
    """The bytes of a file in a repository, one more than a picture may have at most."""
    import fsspec

    with fsspec.open(path, "rb") as stream:
        data: bytes = stream.read(MAX_PICTURE_BYTES + 1)
        return data


def told(error: Exception, where: str) -> Exception:
    """An error of `datasets` as one of ours."""
    if isinstance(error, LlavamedError):
        return error
    if isinstance(error, FileNotFoundError):  # no such data set, one that asks for a login, or a folder without data
        return UsageError(without_queries(error), where=where, hint=SYNTAX)
    if isinstance(error, OSError):
        return FetchError(without_queries(error), where=where, hint="Repeat the command later.")
    return DataError(f"`datasets` cannot read it: {without_queries(error)}", where=where, hint=SYNTAX)


def without_queries(error: Exception) -> str:
    """What an error says, without the queries of addresses, in which signatures stand."""
    return _QUERY.sub("", " ".join(str(error).split()))[:LONGEST_TOLD] or type(error).__name__


def _choose_split(name: HubName, splits: list[str], usual: str) -> str:
    wanted = name.split or (splits[0] if len(splits) == 1 and usual == USUAL_SPLIT else usual)
    if wanted in splits:
        return wanted
    raise UsageError(
        f"there is no split {wanted!r}; it has: {', '.join(splits)}", where=name.where, hint=f"Name one. {SYNTAX}"
    )
