from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llavamed_cli.corpus.sources import pmc_package
from llavamed_cli.corpus.sources.pmc_package import read_package, unpack
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault


def member(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def package(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_package_gives_its_articles_figures_and_cleans_up(article_folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "PMC77.tar.gz"
    with tarfile.open(archive, "w:gz") as stream:
        stream.add(article_folder, arcname="PMC77")
    scratch, faults = tmp_path / "scratch", list[Fault]()
    pictures = []
    for figure in read_package(archive, scratch, faults.append):
        pictures.append((figure.picture.name, figure.picture.is_file()))
        assert figure.source.file == str(archive)
    assert pictures == [("fx1.jpg", True), ("fx2.png", True)]
    assert [fault.record_id for fault in faults] == ["PMC77-F3"]
    assert files_in(scratch) == set()


def test_only_articles_and_pictures_are_written(tmp_path: Path) -> None:
    names = ["P/a.nxml", "P/b.JPG", "P/c.pdf", "P/d.sh", "P/.hidden.xml", "P/e.xml/f.txt"]
    unpack(package(tmp_path / "p.tar.gz", *(member(name) for name in names)), tmp_path / "out")
    assert files_in(tmp_path / "out") == {"a.nxml", "b.JPG"}


@pytest.mark.parametrize(
    "hostile",
    [
        member("../../evil.xml"),
        member("/tmp/evil.xml"),
        member("P/..\\..\\evil.xml"),
        member("P/a.jpg", b"", tarfile.SYMTYPE, "/etc/passwd"),
        member("P/a.jpg", b"", tarfile.LNKTYPE, "../../evil.xml"),
        member("P/a.jpg", b"", tarfile.CHRTYPE),
        member("P/a.jpg", b"", tarfile.FIFOTYPE),
        member("Q/first.jpg"),
    ],
    ids=["parent", "absolute", "backslash", "symlink", "hardlink", "device", "fifo", "twice"],
)
def test_a_hostile_member_refuses_the_archive(hostile: tuple[tarfile.TarInfo, bytes], tmp_path: Path) -> None:
    archive = package(tmp_path / "p.tar.gz", member("P/first.jpg"), hostile)
    with pytest.raises(DataError, match="refused"):
        unpack(archive, tmp_path / "deep" / "down" / "out")
    assert files_in(tmp_path) == {"p.tar.gz", "first.jpg"}


def test_bombs_are_refused_before_they_go_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind, size in (("a.jpg", tarfile.REGTYPE, 600 * 2**20), ("pax", tarfile.XHDTYPE, 3 * 2**30)):
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, size
        with gzip.open(tmp_path / "bomb.tar.gz", "wb") as stream:
            stream.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(2**20))
        with pytest.raises(DataError, match=r"refused: .* claims"):
            unpack(tmp_path / "bomb.tar.gz", tmp_path / "out")
    monkeypatch.setattr(pmc_package, "MAX_ARCHIVE_BYTES", 2**20)
    monkeypatch.setattr(pmc_package, "MAX_MEMBERS", 3)
    with pytest.raises(DataError, match="unpacks to more"):
        unpack(package(tmp_path / "b.tar.gz", member("P/a.mp4", bytes(2**21))), tmp_path / "out2")
    with pytest.raises(DataError, match="more than 3 members"):
        unpack(package(tmp_path / "c.tar.gz", *(member(f"P/{n}.txt") for n in range(4))), tmp_path / "out3")


def test_a_damaged_archive_is_set_aside_and_leaves_nothing(tmp_path: Path) -> None:
    whole = package(tmp_path / "w.tar.gz", member("P/a.xml", os.urandom(50_000))).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for data in (whole[: len(whole) // 2], bytes(flipped), b"no archive", b""):
        (tmp_path / "d.tar.gz").write_bytes(data)
        faults: list[Fault] = []
        assert list(read_package(tmp_path / "d.tar.gz", tmp_path / "scratch", faults.append)) == []
        assert len(faults) == 1 and "not a readable .tar.gz" in faults[0].reason
        assert files_in(tmp_path / "scratch") == set()


def test_a_package_without_an_article_says_so(tmp_path: Path, draw: Callable[..., Path]) -> None:
    faults: list[Fault] = []
    list(read_package(package(tmp_path / "p.tgz", member("P/a.jpg")), tmp_path / "scratch", faults.append))
    assert [fault.reason for fault in faults] == ["the package holds no article (.nxml or .xml)"]
