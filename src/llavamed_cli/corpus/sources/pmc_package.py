"""Figures from PMC's legacy packages, PMCnnnn.tar.gz: one .nxml and its pictures, as they still lie on many disks.

An archive is hostile until shown otherwise. It is read forwards once; only articles and pictures are written, each
under its bare name, into a scratch folder that is removed when its figures are done. One bad member refuses it all.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from llavamed_cli.corpus.sources.jats import PICTURE_ENDINGS, XML_ENDINGS, OnFault, picture_index, read_article_file
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Figure

if TYPE_CHECKING:
    from typing_extensions import Self

ENDINGS = (".tar.gz", ".tgz")
MAX_MEMBERS = 5_000
MAX_MEMBER_BYTES = 512 * 2**20
MAX_ARCHIVE_BYTES = 4 * 2**30
"""Unpacked. PMC's largest packages hold video and data sets, which are passed over but must be read through."""
TOO_LARGE = f"refused: it unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes"
MAX_HEADER_BYTES = 2**20
BLOCK = 2**20


def is_package(path: Path) -> bool:
    """Whether a path is named as a package."""
    return path.name.lower().endswith(ENDINGS)


def read_package(archive: Path, scratch: Path, on_fault: OnFault) -> Iterator[Figure]:
    """Yield the figures of one package. Each figure's picture lies in `scratch` only until the next one is asked for.

    on_fault: is told of an archive that is refused or broken, as a whole.
    """
    name = archive.name
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    folder = scratch / name
    try:
        unpack(archive, folder)
        articles = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in XML_ENDINGS]
        if not articles:
            raise DataError("the package holds no article (.nxml or .xml)", where=str(archive))
        pictures = picture_index(folder)
        for file in articles:
            yield from read_article_file(file, pictures, on_fault, origin=archive)
    except DataError as error:
        on_fault(Fault(where=str(archive), reason=error.what))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> None:
    """Write the articles and pictures of `archive` into `folder`, flat.

    Raises:
        DataError: not a gzipped tar, cut short, or refused: a path that leads out of the archive, a link, a device, a
            sparse file, a name twice, too many members, or too many bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(archive) as unzipped, _open_tar(unzipped) as members:
            for number, member in enumerate(members, start=1):
                if number > MAX_MEMBERS:
                    raise DataError(f"refused: more than {MAX_MEMBERS} members")
                _unpack_member(members, member, folder)
            while unzipped.read(BLOCK):  # gzip's checksum stands at the very end
                if unzipped.tell() > MAX_ARCHIVE_BYTES:
                    raise DataError(TOO_LARGE)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, OSError) as error:
        raise DataError(f"not a readable .tar.gz: {error}", where=str(archive)) from error


def _open_tar(unzipped: gzip.GzipFile) -> tarfile.TarFile:
    return tarfile.open(fileobj=_Capped(unzipped), mode="r|", tarinfo=_Header)


def _unpack_member(members: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise DataError(f"refused: member {member.name!r} leads out of the archive")
    if member.isdir():
        return
    if not member.isreg() or member.issparse():
        raise DataError(f"refused: member {member.name!r} is no plain file")
    if path.name.startswith(".") or not path.name.lower().endswith((*XML_ENDINGS, *PICTURE_ENDINGS)):
        return
    source = members.extractfile(member)
    target = folder / path.name
    if source is None or target.exists():
        raise DataError(f"refused: member {path.name!r} occurs twice")
    with source, target.open("xb") as stream:
        shutil.copyfileobj(source, stream, BLOCK)


class _Header(tarfile.TarInfo):
    """A member's header. An extended one (long names, pax), which tarfile reads into memory whole, must be small."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size > (MAX_MEMBER_BYTES if header.type in tarfile.REGULAR_TYPES else MAX_HEADER_BYTES):
            raise DataError(f"refused: member {header.name!r} claims {header.size:,} bytes")
        return header


class _Capped(io.RawIOBase):
    """A gunzipped stream that refuses to go past MAX_ARCHIVE_BYTES."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if self._stream.tell() + max(size, 0) > MAX_ARCHIVE_BYTES:
            raise DataError(TOO_LARGE)
        return self._stream.read(size)
