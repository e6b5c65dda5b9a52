"""Pictures that stand in a benchmark's records as bytes, written once each under the name of their content.

A data set of the Hub repeats a picture's bytes for every question about it. By content they are one picture again, as
an interval clustered by picture needs it.
"""

from __future__ import annotations

import hashlib
import os.path
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.reading import find_picture
from llavamed_cli.errors import DataError
from llavamed_cli.files import atomic_write
from llavamed_cli.hub_data import MAX_PICTURE_BYTES

NAME_LENGTH = 24
"""Hex digits of a SHA-256: 96 bits tell a million pictures apart."""
KNOWN_BEGINNINGS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"II*\0": ".tif", b"MM\0*": ".tif"}


@dataclass
class PictureStore:
    """Gives every record's picture a name and a place.

    folder: where given bytes are written; None where pictures are not needed, and nothing is written.
    images: where pictures lie that are named; None: none may be named, for the record comes from elsewhere.
    """

    folder: Path | None
    images: Path | None = None
    _written: set[str] = field(default_factory=set)

    def place(self, value: Any) -> tuple[str, Path]:
        """The name and the file of the picture in a record's field. Raises DataError if it holds none."""
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, Mapping) else (value, value)
        if isinstance(data, bytes):
            return self._write(data)
        if not isinstance(path, str) or not path.strip():
            raise DataError("no picture")
        if self.folder is None:
            return path, Path(path)
        if self.images is None:
            raise DataError(f"the picture is named ({path[:200]}) and not given; only local data may name files")
        folder = self.images.absolute()
        file = find_picture(folder, path)
        return file.relative_to(os.path.normpath(folder)).as_posix(), file

    def _write(self, data: bytes) -> tuple[str, Path]:
        if len(data) > MAX_PICTURE_BYTES:
            raise DataError(f"a picture of {len(data):,} bytes; at most {MAX_PICTURE_BYTES:,} are read")
        name = content_name(data)
        if self.folder is None:
            return name, Path(name)
        file = self.folder / name
        if name not in self._written:
            if not file.is_file() or file.stat().st_size != len(data):
                with atomic_write(file, "wb", durable=False) as stream:
                    stream.write(data)
            self._written.add(name)
        return name, file


def content_name(data: bytes) -> str:
    """A picture's name by its content; the ending is for people, who may look into the folder."""
    ending = next((ending for start, ending in KNOWN_BEGINNINGS.items() if data.startswith(start)), "")
    return hashlib.sha256(data).hexdigest()[:NAME_LENGTH] + ending
