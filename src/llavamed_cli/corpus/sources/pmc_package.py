"""Figures from PMC's legacy packages, PMCnnnn.tar.gz: one .nxml and its pictures, as they still lie on many disks.

An archive is hostile until shown otherwise. It is read forwards once; only articles and pictures are written, each
under its bare name, into a scratch folder that is removed when its figures are done. One bad member refuses it all.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from llavamed_cli.corpus.sources.article_folders import XML_ENDINGS, OnFault
from llavamed_cli.corpus.sources.hostile_tar import member_path, open_tar
from llavamed_cli.corpus.sources.jats import read_article_file
from llavamed_cli.corpus.sources.picture_files import PICTURE_ENDINGS, picture_index
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Figure

ENDINGS = (".tar.gz", ".tgz")
MAX_MEMBERS = 5_000
MAX_ARCHIVE_BYTES = 4 * 2**30
"""Unpacked. PMC's largest packages hold video and data sets, which are passed over but must be read through."""
TOO_LARGE = f"refused: it unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes"
BLOCK = 2**20


def is_package(path: Path) -> bool:
    """Whether a path is named as a package."""
    return path.name.lower().endswith(ENDINGS)


def read_package(archive: Path, scratch: Path, on_fault: OnFault) -> Iterator[Figure]:
    """Yield the figures of one package. Their pictures lie in `scratch` until the last figure is done with.

    on_fault: is told of an archive that is refused or broken, as a whole.
    """
    folder = scratch / f"package-{hashlib.sha256(str(archive.resolve()).encode()).hexdigest()[:16]}"
    shutil.rmtree(folder, ignore_errors=True)  # a run that was killed may have left it half full
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
        with gzip.open(archive) as unzipped, open_tar(_Capped(unzipped)) as members:
            for number, member in enumerate(members, start=1):
                if number > MAX_MEMBERS:
                    raise DataError(f"refused: more than {MAX_MEMBERS} members")
                _unpack_member(members, member, folder)
            while unzipped.read(BLOCK):  # gzip's checksum stands at the very end
                if unzipped.tell() > MAX_ARCHIVE_BYTES:
                    raise DataError(TOO_LARGE)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, OSError) as error:
        raise DataError(f"not a readable .tar.gz: {error}", where=str(archive)) from error


def _unpack_member(members: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path = member_path(member)
    if path is None or path.name.startswith(".") or not path.name.lower().endswith((*XML_ENDINGS, *PICTURE_ENDINGS)):
        return
    source = members.extractfile(member)
    target = folder / path.name
    if source is None or target.exists():
        raise DataError(f"refused: member {path.name!r} occurs twice")
    with source, target.open("xb") as stream:
        shutil.copyfileobj(source, stream, BLOCK)


class _Capped(io.RawIOBase):
    """A gunzipped stream that refuses to go past MAX_ARCHIVE_BYTES."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if self._stream.tell() + max(size, 0) > MAX_ARCHIVE_BYTES:
            raise DataError(TOO_LARGE)
        return self._stream.read(size)
