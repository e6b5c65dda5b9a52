from __future__ import annotations

import os
from pathlib import Path

import pytest

from llavamed_cli.corpus.sources.article_folders import holds_articles, walk
from llavamed_cli.records import Fault


def walked(source: Path, faults: list[Fault] | None = None) -> list[tuple[str, list[str]]]:
    told: list[Fault] = [] if faults is None else faults
    return [(folder.name, names) for folder, names in walk(source, (".xml", ".nxml"), told.append)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("b.xml", "a.NXML", "c.jpg", "z/1.xml", "d/e/2.xml", "d/e/3.xml", ".hidden/4.xml", "empty/x.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folders_come_in_order_and_a_folder_before_those_in_it(tree: Path) -> None:
    assert walked(tree) == [("root", ["a.NXML", "b.xml"]), ("e", ["2.xml", "3.xml"]), ("z", ["1.xml"])]
    assert walked(tree / "b.xml") == [("root", ["b.xml"])]


def test_links_are_followed_but_not_in_circles(tree: Path) -> None:
    (tree / "d" / "back").symlink_to(tree)
    (tree / "d" / "side").symlink_to(tree / "z")
    (tree / "d" / "gone.xml").symlink_to(tree / "nowhere")
    assert [folder for folder, _ in walked(tree)] == ["root", "e", "side", "z"]


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_read(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def scandir(path: Path) -> os._ScandirIterator[str]:
        if Path(path).name == "e":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    faults: list[Fault] = []
    assert [folder for folder, _ in walked(tree, faults)] == ["root", "z"]
    assert [(Path(fault.where).name, fault.reason) for fault in faults] == [
        ("e", "the folder cannot be listed: Permission denied")
    ]


def test_articles_are_found_in_a_folder_or_one_level_below(tree: Path) -> None:
    assert holds_articles(tree) and holds_articles(tree / "d")
    assert not holds_articles(tree / "empty")
