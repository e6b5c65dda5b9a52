"""Objects of a server kept on disk by their key: verified ones in their place, begun ones where they can go on.

A kept object is verified again whenever it is used, so nothing needs to be flushed to disk at once, and a file that was
damaged or changed is fetched anew. Several runs may share a cache: one at a time receives an object.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

from llavamed_cli.errors import DataError

BLOCK = 2**20
LONGEST_NAME = 200
"""Bytes; file systems take 255, and some of them count more for a letter."""


class Part:
    """The bytes of an object that have come so far, and the ETag that they belong to. Made by `ObjectCache.part`."""

    def __init__(self, stream: IO[bytes], path: Path, etag_file: Path) -> None:
        self._stream = stream
        self._path = path
        self._etag_file = etag_file

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return os.fstat(self._stream.fileno()).st_size

    def headers(self) -> dict[str, str]:
        """What asks for the rest, if the object is still the same (RFC 9110, 13.1.5); nothing if there is no part."""
        etag = self._etag()
        return {"Range": f"bytes={self.size}-", "If-Range": etag} if self.size and etag else {}

    def restart(self, etag: str | None) -> None:
        """Drop what has come. etag: of what will."""
        self._stream.truncate(0)
        if etag and etag.startswith('"'):  # a weak one does not promise the same bytes
            self._etag_file.write_text(etag, encoding="utf-8")
        else:
            self._etag_file.unlink(missing_ok=True)

    def write(self, block: bytes) -> None:
        """Add what came."""
        view = memoryview(block)
        while view:
            view = view[self._stream.write(view) :]

    def md5(self) -> str:
        """Of all that has come, in hex."""
        return file_md5(self._path)

    def place(self, path: Path) -> None:
        """Put the whole object where it belongs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.name == "nt":  # Windows moves no open file; elsewhere it stays open, and so locked, until it is moved
            self._stream.close()
        self._path.replace(path)
        self._etag_file.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing of it."""
        self._path.unlink(missing_ok=True)
        self._etag_file.unlink(missing_ok=True)

    def _etag(self) -> str | None:
        try:
            return self._etag_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None


class ObjectCache:
    """A folder of objects. It is made when the first one comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the object of that key lies, or would.

        Raises:
            DataError: a key that could lead out of the folder, or is too long for a file's name.
        """
        names = [quote(name, safe="", errors="replace") for name in key.split("/")]
        if any(name in ("", ".", "..") or len(name) > LONGEST_NAME for name in names) or not _is_text(key):
            raise DataError(f"{key[:LONGEST_NAME]!r} is no name that an object can be kept under")
        shard = _digest(names[0])[:2]  # millions of articles, but some ten thousand in a folder
        return self.folder.joinpath("objects", shard, *names)

    def holds(self, key: str, md5: str | None) -> bool:
        """Whether the object is there, and is the one of that MD5."""
        path = self.path(key)
        return path.is_file() and (md5 is None or file_md5(path) == md5)

    @contextmanager
    def part(self, key: str) -> Iterator[Part]:
        """What there is of an object so far, for this thread alone; others wait. Kept for later, but on a DataError."""
        path = self.folder / "parts" / _digest(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path) as stream:
            part = Part(stream, path, path.with_suffix(".etag"))
            try:
                yield part
            except DataError:
                part.discard()
                raise
            finally:
                if _is_at(stream, path) and part.size == 0:
                    part.discard()


@contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to add to it, made if it is absent, once no other thread or process has it open so."""
    while True:
        stream = path.open("ab", buffering=0)
        try:
            _lock(stream)
            if _is_at(stream, path):
                yield stream
                return
        finally:
            stream.close()


def _lock(stream: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two runs that share a cache may then fetch an object twice
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # a file system without locks
            raise


def _is_at(stream: IO[bytes], path: Path) -> bool:
    """Whether `stream` is still the file at `path`: who held it before may have moved it to its place."""
    try:
        return not stream.closed and os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def file_md5(path: Path) -> str:
    """The MD5 of a file's bytes, in hex. It tells damage, not malice: the MD5 comes from the same server."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _is_text(key: str) -> bool:
    """Whether it can be written in UTF-8: JSON may hold half a character."""
    return not any("\ud800" <= letter <= "\udfff" for letter in key)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
