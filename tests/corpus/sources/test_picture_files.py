from __future__ import annotations

import pickle
import sqlite3
from pathlib import Path

import pytest

from llavamed_cli.corpus.sources.picture_files import (
    find_picture,
    picture_index,
    picture_name,
    write_picture_index,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures beside an article, in a folder of pictures, and beside another article."""
    root = tmp_path / "articles"
    for name in ("a.xml", "g1.gif", "G1.JPG", "g2.tif", "g2.png", "g3.jpg.txt", "pictures/deep/g4.webp", "other/b.xml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "other/g5.jpg").touch()
    (root / "between").mkdir()
    (root / "between/third").mkdir()
    (root / "between/third/c.xml").touch()
    (root / "between/third/g6.jpg").touch()
    return root


EXPECTED = {"g1": "G1.JPG", "g1.jpg": "G1.JPG", "g1.gif": "g1.gif", "g2": "g2.png", "g2.tif": "g2.tif", "g4": "g4.webp"}


def test_an_index_knows_the_pictures_of_a_folder_and_no_other_articles(folder: Path) -> None:
    index = picture_index(folder)
    assert {name: index[name].name for name in EXPECTED} == EXPECTED
    assert "g5" not in index and "g6" not in index and "g3" not in index


def test_the_index_on_the_disk_is_the_same(folder: Path, tmp_path: Path) -> None:
    stored = write_picture_index(folder, tmp_path / "scratch" / "index.sqlite")
    assert len(pickle.dumps(stored)) < 500
    with pickle.loads(pickle.dumps(stored)).open() as index:
        assert dict(index) == picture_index(folder) and len(index) == len(picture_index(folder))
        assert index.get("g5") is None
        with pytest.raises(sqlite3.OperationalError):
            index._connection.execute("DELETE FROM pictures")
    (folder / "g7.png").touch()
    with write_picture_index(folder, stored.file).open() as index:
        assert index["g7"] == folder / "g7.png"


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("g1", "G1.JPG"),
        ("G1.gif", "g1.gif"),
        ("g1.eps", "G1.JPG"),
        ("info:doi/10.1371/G2.tif", "g2.tif"),
        ("g2.jpg", "g2.png"),
        ("pictures%2Fg4", "g4.webp"),
        ("..\\x\\g4.webp", "g4.webp"),
        ("none", None),
        ("", None),
    ],
)
def test_a_graphic_is_found_by_the_last_part_of_its_name(href: str, name: str | None, folder: Path) -> None:
    found = find_picture(href, picture_index(folder))
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("..", "unnamed"),
        ("a/..", "unnamed"),
        ("a%00b/%2e%2e", "unnamed"),
        ("/", "unnamed"),
    ],
)
def test_no_name_leads_out_of_a_folder(href: str, name: str) -> None:
    assert picture_name(href) == name
