"""Tar archives from strangers, read forwards once: no member leads out, is a link or a device, or claims too much."""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import DataError

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_MEMBER_BYTES = 512 * 2**20
MAX_HEADER_BYTES = 2**20


def open_tar(stream: Any) -> tarfile.TarFile:
    """Open a tar, of which only `read` is asked, for reading forwards."""
    return tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header)


def member_path(member: tarfile.TarInfo) -> PurePosixPath | None:
    """Where a plain file lies in the archive; None for a folder.

    Raises:
        DataError: a path that leads out of the archive, a link, a device or a sparse file.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise DataError(f"refused: member {member.name!r} leads out of the archive")
    if member.isdir():
        return None
    if not member.isreg() or member.issparse():
        raise DataError(f"refused: member {member.name!r} is no plain file")
    return path


class _Header(tarfile.TarInfo):
    """A member's header. An extended one (long names, pax), which tarfile reads into memory whole, must be small."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size > (MAX_MEMBER_BYTES if header.type in tarfile.REGULAR_TYPES else MAX_HEADER_BYTES):
            raise DataError(f"refused: member {header.name!r} claims {header.size:,} bytes")
        return header
