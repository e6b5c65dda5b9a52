"""Which words are pictures, and what is said of those that are none."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.asking.pictures import Words, check_question, open_shown, sort_words
from llavamed_cli.errors import PictureError, UsageError
from llavamed_cli.model.picture import View

URL = "https://example.org/scan.png"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("scan.png", "prior.png"):
        Image.new("RGB", (6, 4), "red").save(tmp_path / name)
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "pictures", "question"),
    [
        (["scan.png", "What?"], ("scan.png",), "What?"),
        (["What?", "scan.png"], ("scan.png",), "What?"),
        (["prior.png", "scan.png", "What changed?"], ("prior.png", "scan.png"), "What changed?"),
        (["scan.png"], ("scan.png",), None),
        (["scan.png", "lung"], ("scan.png",), "lung"),
        (["scan.png", ""], ("scan.png",), ""),
        (["scan.png", "Is it a CT/MR scan?"], ("scan.png",), "Is it a CT/MR scan?"),
        (["-", URL, "What?"], ("-", URL), "What?"),
        (["report.pdf", "What?"], ("report.pdf",), "What?"),
        (["scan.png", "?" * 5000], ("scan.png",), "?" * 5000),
    ],
)
def test_words_are_told_apart(here: Path, words: list[str], pictures: tuple[str, ...], question: str | None) -> None:
    assert sort_words(words) == Words(pictures, question)


@pytest.mark.parametrize(
    ("words", "given", "fault", "said"),
    [
        (["scann.png", "What?"], False, PictureError, "scann.png: no such picture\n  Did you mean scan.png?"),
        (["scan.png", "priro.png"], False, PictureError, "priro.png: no such picture\n  Did you mean prior.png?"),
        (["scan.png", "What?"], True, PictureError, "What?: no such picture"),
        (["nothing", "What?"], False, PictureError, "nothing: no such picture"),
        (["What?"], False, UsageError, "no picture is named"),
        ([], False, UsageError, "no picture is named"),
        (["-", "-", "What?"], False, UsageError, "can be one picture"),
    ],
)
def test_what_is_missing_is_named(here: Path, words: list[str], given: bool, fault: Any, said: str) -> None:
    with pytest.raises(fault) as caught:
        sort_words(words, questions_given=given)
    assert said in str(caught.value)


def test_a_picture_in_the_questions_place_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match="stands where the question belongs"):
        check_question("scan.png")
    with pytest.raises(UsageError, match="empty"):
        check_question(" ")
    assert check_question(" What? ") == "What?"


def test_what_is_piped_in_is_a_picture(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped(io.TextIOWrapper):
        pass

    for content, size in (((here / "scan.png").read_bytes(), (6, 4)), (b"<html>", None)):
        monkeypatch.setattr(sys, "stdin", Piped(io.BytesIO(content)))
        if size:
            assert open_shown("-", View()).image.size == size
        else:
            with pytest.raises(PictureError, match="standard input: an HTML page, not a picture"):
                open_shown("-", View())


@pytest.mark.parametrize(
    ("name", "said"), [("report.pdf", "a PDF document, not a picture"), (".", "none of them a DICOM picture")]
)
def test_what_is_none_is_named(here: Path, name: str, said: str) -> None:
    with pytest.raises(PictureError, match=said):
        open_shown(name, View())
