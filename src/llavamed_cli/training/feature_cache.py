"""Where features of pictures are kept between two times a picture is met: in memory, or a file each on disk.

What comes back is bit for bit what was put in, so that a run learns the same with a cache as without. On disk a file
is named by the picture's content, in a folder named by all else that features depend on: several processes and later
runs share them, a torn or damaged file is told by its checksum and made anew, and memory stays flat. The price is to
read and hash a picture's bytes each time, which takes a hundredth of what the tower does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from llavamed_cli.errors import PictureError, first_line
from llavamed_cli.files import atomic_write, file_sha256
from llavamed_cli.model.precision import GB
from llavamed_cli.progress import Progress
from llavamed_cli.training.store_writer import DAY_SECONDS, DAYS_KEPT, cache_folder

if TYPE_CHECKING:
    import torch

CHECKSUM = 16
USED = "used"
"""A file in a tower's folder; its time of change says when a run last opened it."""


class FeatureCache(Protocol):
    """Keeps tensors [tokens, width] of one shape and type, on the CPU."""

    def key(self, picture: Path) -> str:
        """What a picture's features are kept under. Raises PictureError where that cannot be told any more."""

    def find(self, key: str) -> torch.Tensor | None:
        """What was kept, or None."""

    def keep(self, key: str, features: torch.Tensor) -> None:
        """Keep features, while there is room."""


class MemoryCache:
    """Features in memory, up to `limit` bytes; beyond it a picture's are not kept."""

    def __init__(self, limit: int) -> None:
        self._room = limit
        self._kept: dict[str, torch.Tensor] = {}

    def key(self, picture: Path) -> str:
        return str(picture)

    def find(self, key: str) -> torch.Tensor | None:
        return self._kept.get(key)

    def keep(self, key: str, features: torch.Tensor) -> None:
        size = features.numel() * features.element_size()
        if key not in self._kept and size <= self._room:
            self._kept[key] = features.clone()  # of a batch's features this would be a view, and hold them all
            self._room -= size


class DiskCache:
    """Features of one tower, shape and type, a file a picture.

    Args:
        leave: bytes of the disk that stay free, for checkpoints above all. Where no more can be written that is said
            once, and features are computed each time.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, int], dtype: torch.dtype, *, leave: int, progress: Progress
    ) -> None:
        self._folder = folder
        self._leave = leave
        self._shape = shape
        self._dtype = dtype
        self._progress = progress
        self._writable = True

    def key(self, picture: Path) -> str:
        try:
            return file_sha256(picture)
        except OSError as error:
            raise PictureError(
                f"the picture cannot be read any more: {error.strerror or first_line(error)}",
                where=str(picture),
                hint="It was there when training began. Put it back and repeat the command.",
            ) from error

    def find(self, key: str) -> torch.Tensor | None:
        import torch

        try:
            content = bytearray(self._file(key).read_bytes())
        except OSError:
            return None
        body = memoryview(content)[:-CHECKSUM]
        if len(body) != self.file_size - CHECKSUM or content[-CHECKSUM:] != _checksum(body):
            return None
        return torch.frombuffer(content, dtype=self._dtype, count=self._numbers).view(self._shape)

    def keep(self, key: str, features: torch.Tensor) -> None:
        import torch

        if not self._writable:
            return
        body = features.contiguous().view(torch.uint8).numpy().tobytes()
        try:
            if shutil.disk_usage(self._folder).free < self._leave + self.file_size:
                raise OSError(errno.ENOSPC, f"less than {self._leave / GB:.2f} GB are free")
            with atomic_write(self._file(key), "wb", durable=False) as stream:
                stream.write(body)
                stream.write(_checksum(body))
        except OSError as error:
            self._writable = False
            why = error.strerror or first_line(error)
            self._progress.note(f"no more features are kept in {self._folder}: {why}; they are computed each time")

    @property
    def file_size(self) -> int:
        """Bytes a picture takes."""
        return self._numbers * self._dtype.itemsize + CHECKSUM

    @property
    def _numbers(self) -> int:
        return self._shape[0] * self._shape[1]

    def _file(self, key: str) -> Path:
        return self._folder / key[:2] / key


def features_folder() -> Path:
    """Where features are kept on disk, beside encoded samples."""
    return cache_folder().with_name("features")


def open_folder(folder: Path) -> int:
    """Make a tower's folder, or find it; return the bytes it holds. Towers that no run opened for a month are removed.

    Raises:
        OSError: it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / USED).touch()
    now = time.time()
    for other in folder.parent.iterdir():
        with suppress(OSError):
            if now - (other / USED).stat().st_mtime > DAYS_KEPT * DAY_SECONDS:
                shutil.rmtree(other)
    return sum(_held(entry.path, now) for entry in os.scandir(folder) if entry.is_dir())


def _held(folder: str, now: float) -> int:
    """Bytes of whole files in a folder; what a killed process was writing a day ago and more is removed."""
    held = 0
    for entry in os.scandir(folder):
        with suppress(OSError):
            found = entry.stat()
            if not entry.name.endswith(".part"):
                held += found.st_size
            elif now - found.st_mtime > DAY_SECONDS:
                Path(entry.path).unlink()
    return held


def _checksum(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM).digest()
