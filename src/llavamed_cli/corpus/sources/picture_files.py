"""Which picture file a graphic of an article means: it is named with another ending, without one, or in another case.

The index of a small folder is a dictionary. That of a folder too large to list again for every article is a file on
the disk: it is made once, every worker opens it, and a batch carries only its name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from llavamed_cli.corpus.sources.article_folders import holds_xml, listing

PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
"""In the order of preference: beside a .jpg, PMC's packages keep a .gif of the same name as its thumbnail."""
DRAWING_ENDINGS = (".eps", ".svg", ".pdf", ".ps", ".ai", ".emf", ".wmf", ".ppt", ".pptx")
"""What publishers name in their XML where PMC keeps a .jpg."""


def picture_index(folder: Path) -> dict[str, Path]:
    """The picture files of a folder, and of the folders below that hold no article, by lower-case name and stem."""
    index: dict[str, Path] = {}
    for file in sorted(_pictures(folder), key=_preference):
        for name in _names(file):
            index.setdefault(name, file)
    return index


def find_picture(href: str, pictures: Mapping[str, Path]) -> Path | None:
    """The file that a graphic's `href` means; None if it is not there."""
    name = picture_name(href).lower()
    stem = name.rpartition(".")[0] if name.endswith((*PICTURE_ENDINGS, *DRAWING_ENDINGS)) else name
    return pictures.get(name) or pictures.get(stem)


def picture_name(href: str) -> str:
    """The last part of an `href`: nothing else of it counts, so that no article can point elsewhere."""
    name = unquote(href).replace("\\", "/").replace("\0", "").rstrip("/").rpartition("/")[2]
    return "unnamed" if name in ("", ".", "..") else name


@dataclass(frozen=True)
class PictureIndex:
    """What `picture_index` gives, in a file on the disk."""

    file: Path

    @contextmanager
    def open(self) -> Iterator[Mapping[str, Path]]:
        """The index, while the context lasts."""
        with closing(sqlite3.connect(f"{self.file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            yield _Stored(connection)


def write_picture_index(folder: Path, file: Path) -> PictureIndex:
    """Write the index of `folder` to `file`, anew."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    rows = ((name, *_preference(path)) for path in _pictures(folder) for name in _names(path))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")  # it is made again after a crash
        connection.execute("CREATE TABLE pictures (name TEXT PRIMARY KEY, rank INT, path TEXT) WITHOUT ROWID")
        connection.executemany(
            "INSERT INTO pictures VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET rank = excluded.rank, "
            "path = excluded.path WHERE (excluded.rank, excluded.path) < (rank, path)",
            rows,
        )
        connection.commit()
    return PictureIndex(file)


class _Stored(Mapping[str, Path]):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __getitem__(self, name: str) -> Path:
        row = self._connection.execute("SELECT path FROM pictures WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise KeyError(name)
        return Path(row[0])

    def __iter__(self) -> Iterator[str]:
        return (name for (name,) in self._connection.execute("SELECT name FROM pictures"))

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM pictures").fetchone()[0])


def _pictures(folder: Path) -> Iterator[Path]:
    files, folders = listing(folder, PICTURE_ENDINGS)
    yield from (folder / name for name in files)
    for name in folders:
        if not holds_xml(folder / name):
            yield from _pictures(folder / name)


def _preference(file: Path) -> tuple[int, str]:
    return PICTURE_ENDINGS.index(file.suffix.lower()), str(file)


def _names(file: Path) -> tuple[str, str]:
    return file.name.lower(), file.stem.lower()
