"""Pictures opened once: known again while they stay as they are, looked at anew when they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from PIL import Image

from llavamed_cli.progress import Silent
from llavamed_cli.training import picture_check
from llavamed_cli.training.picture_check import CheckedPictures, check_pictures
from llavamed_cli.training.text_table import TextTable, TextWriter

PICTURES = 9


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextTable:
    monkeypatch.setattr(picture_check, "BLOCK", 2)
    with TextWriter(tmp_path / "paths") as writer:
        for number in range(PICTURES):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
            writer.write(str(tmp_path / f"{number}.png"))
    return TextTable(tmp_path / "paths")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pictures opened from here on."""
    names: list[str] = []
    really: Callable[[Path], Image.Image] = picture_check.open_picture

    def watched(path: Path) -> Image.Image:
        names.append(path.stem)
        return really(path)

    monkeypatch.setattr(picture_check, "open_picture", watched)
    return names


def check(paths: TextTable, tmp_path: Path) -> CheckedPictures:
    return check_pictures(paths, tmp_path / "seen", Silent())


def test_only_what_changed_is_opened_again(paths: TextTable, opened: list[str], tmp_path: Path) -> None:
    first = check(paths, tmp_path)
    assert sorted(opened) == [str(number) for number in range(PICTURES)]
    assert not first.bad
    opened.clear()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "3.png")
    (tmp_path / "5.png").write_bytes(b"<html></html>")
    (tmp_path / "6.png").unlink()
    os.utime(tmp_path / "7.png", (1, 1))
    second = check(paths, tmp_path)
    assert set(opened) == {"3", "5", "6", "7"}
    assert second.bad == {5: "an HTML page, not a picture", 6: "no such picture"}
    same = (first.records["digest"] == second.records["digest"]).all(axis=1)
    assert numpy.flatnonzero(~same).tolist() == [3]


def test_a_bad_picture_that_was_mended_is_good(paths: TextTable, opened: list[str], tmp_path: Path) -> None:
    whole = (tmp_path / "4.png").read_bytes()
    (tmp_path / "4.png").write_bytes(whole[:20])
    assert list(check(paths, tmp_path).bad) == [4]
    (tmp_path / "4.png").write_bytes(whole)
    opened.clear()
    assert not check(paths, tmp_path).bad
    assert opened == ["4"]


@pytest.mark.parametrize("seconds", [-1.0, 60.0])
def test_a_check_that_was_stopped_goes_on(
    seconds: float, paths: TextTable, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = picture_check._check_block

    def stopped(table: TextTable, records: numpy.ndarray, first: int) -> object:
        if first >= 6:
            raise KeyboardInterrupt
        return really(table, records, first)

    monkeypatch.setattr(picture_check, "SAVE_SECONDS", seconds)
    monkeypatch.setattr(picture_check, "_check_block", stopped)
    with pytest.raises(KeyboardInterrupt):
        check(paths, tmp_path)
    monkeypatch.setattr(picture_check, "_check_block", really)
    opened.clear()
    assert not check(paths, tmp_path).bad
    assert sorted(opened) == ["6", "7", "8"]


def test_a_memory_of_other_pictures_is_not_used(paths: TextTable, opened: list[str], tmp_path: Path) -> None:
    (tmp_path / "seen").write_bytes(b"x" * 100)
    check(paths, tmp_path)
    assert len(opened) == PICTURES


def test_what_became_of_a_picture_since(paths: TextTable, tmp_path: Path) -> None:
    checked = check(paths, tmp_path)
    os.utime(tmp_path / "0.png", (1, 1))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.png")
    (tmp_path / "2.png").unlink()
    assert [checked.changed(number) for number in range(4)] == [None, "has changed", "is gone", None]


def test_a_name_that_no_file_can_have_is_said(tmp_path: Path) -> None:
    with TextWriter(tmp_path / "paths") as writer:
        for name in ("/a\0b.png", "/a\ud800.png", str(tmp_path), "/" + "x" * 300):
            writer.write(name)
    bad = check(TextTable(tmp_path / "paths"), tmp_path).bad
    assert bad[2] == "a folder, not a picture"
    assert all("cannot be read" in bad[number] for number in (0, 1, 3))
