"""Every article of PubMed Central's cloud on one day, from the bucket's daily inventory (S3 Inventory, CSV).

The inventory is hundreds of megabytes in no promised order; it is read once into a small SQLite index, so that memory
stays flat, articles come by number, and of several versions the newest counts.
"""

from __future__ import annotations

import csv
import gzip
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.sources.object_cache import locked
from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.pmc_metadata import ArticleId
from llavamed_cli.errors import DataError, FetchError
from llavamed_cli.progress import Progress
from llavamed_cli.records import RemoteFile

INVENTORIES = "inventory-reports/pmc-oa-opendata/metadata/"
SHARDS = "inventory-reports/"
KEY_COLUMN = "Key"
MAX_SHARD_BYTES = 4 * 2**30
LONGEST_LINE = 16_384
"""Letters of a CSV line; a key has at most 1,024 bytes (S3)."""

_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)T\d\d-\d\dZ/", re.ASCII)
_METADATA_KEY = re.compile(r"(?:metadata/)?PMC([1-9][0-9]{0,8})\.([1-9][0-9]{0,2})(?:/PMC\1\.\2)?\.json", re.ASCII)
_MD5 = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True)
class _Manifest:
    shards: tuple[RemoteFile, ...]
    key_column: int


def read_inventory(cloud: PmcCloud, day: str | None, progress: Progress) -> Iterator[ArticleId]:
    """Yield the newest version of every article, by number.

    Args:
        day: YYYY-MM-DD; the newest inventory if None, which stays the same for a run that is repeated.

    Raises:
        DataError: no inventory of that day, or it cannot be read. FetchError: the server does not serve, or the index
            cannot be kept.
    """
    stamp = cloud.answers.recall(f"inventory {day or 'newest'}", lambda: _find(cloud, day))
    progress.note(f"articles of the inventory {stamp}")
    index = cloud.cache.folder / f"inventory-{stamp}.sqlite"
    if not index.is_file():
        index.parent.mkdir(parents=True, exist_ok=True)
        with locked(index.with_suffix(".lock")):
            if not index.is_file():
                _build(cloud, stamp, index, progress)
    with _database(index) as connection:
        for number, version in connection.execute("SELECT number, version FROM article ORDER BY number"):
            yield ArticleId(number, version)


@contextmanager
def _database(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        hint = "Is there room on the disk? If so, remove the file."
        raise FetchError(f"the inventory's index cannot be kept: {error}", where=str(file), hint=hint) from error


def _find(cloud: PmcCloud, day: str | None) -> str:
    """The stamp of an inventory, e.g. "2026-11-20T01-00Z"."""
    names = (folder.removeprefix(INVENTORIES) for folder in cloud.folders(INVENTORIES))
    stamps = sorted(name.rstrip("/") for name in names if _STAMP.fullmatch(name))
    matching = [stamp for stamp in stamps if day is None or stamp.startswith(day)]
    if matching:
        return matching[-1]
    there = f"there are those from {stamps[0][:10]} to {stamps[-1][:10]}" if stamps else "there is none at all"
    raise DataError(f"no inventory of {day or 'any day'}; {there}", hint="They are kept for 30 days.")


def _build(cloud: PmcCloud, stamp: str, index: Path, progress: Progress) -> None:
    manifest = _parse_manifest(cloud.read_json(f"{INVENTORIES}{stamp}/manifest.json"))
    part = index.with_suffix(".part")
    part.unlink(missing_ok=True)
    with _database(part) as connection:
        connection.execute("PRAGMA journal_mode=OFF")  # a build that is interrupted is begun anew
        connection.execute("CREATE TABLE article (number INTEGER PRIMARY KEY, version INTEGER NOT NULL)")
        connection.execute("BEGIN")
        with progress.bar("inventory", total=len(manifest.shards)) as bar:
            for shard in manifest.shards:
                _index(cloud.fetch(shard, limit=MAX_SHARD_BYTES), manifest.key_column, connection)
                bar.advance()
        connection.execute("COMMIT")
    part.replace(index)


def _index(shard: Path, key_column: int, connection: sqlite3.Connection) -> None:
    connection.executemany(
        "INSERT INTO article VALUES (?, ?) ON CONFLICT(number) DO UPDATE SET version = max(version, excluded.version)",
        _article_versions(shard, key_column),
    )


def _article_versions(shard: Path, key_column: int) -> Iterator[tuple[int, int]]:
    """The articles whose metadata a shard lists; every article version has one such object."""
    try:
        with gzip.open(shard, "rt", encoding="utf-8", newline="") as stream:
            for row in csv.reader(iter(lambda: stream.readline(LONGEST_LINE), "")):
                if found := _METADATA_KEY.fullmatch(row[key_column]):
                    yield int(found[1]), int(found[2])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, IndexError) as error:
        raise DataError(f"an inventory shard cannot be read: {error}", where=str(shard)) from error


def _parse_manifest(record: Any) -> _Manifest:
    """Read a manifest.json of S3 Inventory. Raises DataError."""
    try:
        columns = [name.strip() for name in record["fileSchema"].split(",")]
        shards = [(file["key"], file.get("MD5checksum")) for file in record["files"]]
        if record["fileFormat"] != "CSV":
            raise DataError(f"the inventory is not CSV but {record['fileFormat']}")
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"no manifest of an inventory: {error!r}") from error
    if KEY_COLUMN not in columns:
        raise DataError(f"the inventory has no column {KEY_COLUMN}")
    for key, _ in shards:
        if not isinstance(key, str) or not key.startswith(SHARDS):
            raise DataError(f"the inventory names a file that is not of it: {key!r}")
    files = (
        RemoteFile(key=key, md5=md5.lower() if isinstance(md5, str) and _MD5.fullmatch(md5) else None)
        for key, md5 in shards
    )
    return _Manifest(tuple(files), columns.index(KEY_COLUMN))
