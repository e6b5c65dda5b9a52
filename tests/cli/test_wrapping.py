"""Wrapped as it comes: what a terminal shows in the end is what textwrap would have made of the whole."""

from __future__ import annotations

import io
import os
import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as some

from llavamed_cli.cli import wrapping
from llavamed_cli.cli.wrapping import AnswerPrinter, cells


class Screen(io.StringIO):
    """A terminal of so many columns, without the hard wrapping that a real one adds."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        """The lines after letters were taken back."""
        lines = [""]
        for back, sign in re.findall(r"\x1b\[(\d+)D\x1b\[K|([\s\S])", self.getvalue()):
            if back:
                taken = 0
                while taken < int(back):
                    taken += cells(lines[-1][-1])
                    lines[-1] = lines[-1][:-1]
            elif sign == "\n":
                lines.append("")
            else:
                lines[-1] += sign
        return [line.rstrip() for line in lines]


def printed(pieces: list[str], columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(wrapping.shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    printer = AnswerPrinter(screen)
    for piece in pieces:
        printer.print(piece)
    return screen.shown()


@given(some.text("abcdef ", max_size=80), some.integers(10, 30), some.integers(1, 9))
def test_words_stay_whole_where_they_fit(text: str, columns: int, size: int) -> None:
    text = " ".join(text.split())
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    with pytest.MonkeyPatch.context() as patch:
        lines = printed(pieces, columns, patch)
    assert max(map(len, lines)) <= columns
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if all(len(word) <= columns for word in text.split()):
        assert " ".join(lines).split() == text.split()


def test_as_textwrap_does(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "There is a small left pleural effusion, and the heart is of normal size for this projection."
    assert printed(list(text), 20, monkeypatch) == textwrap.wrap(text, 20)


def test_wide_characters_take_two_columns_and_break_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(["左肺有一个小结节，右肺清晰。"], 12, monkeypatch) == ["左肺有一个小", "结节，右肺清", "晰。"]


def test_a_text_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = printed(["a\x1b[2Jb\x07\u202ec\r\n\td"], 40, monkeypatch)
    assert shown == ["a[2Jbc", " d"]


def test_lines_of_its_own_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(["one two\nthree four five"], 10, monkeypatch) == ["one two", "three four", "five"]


def test_elsewhere_text_goes_out_as_it_is() -> None:
    stream = io.StringIO()
    printer = AnswerPrinter(stream)
    printer.print("a\x1b[2J " * 50)
    printer.end()
    assert stream.getvalue() == "a\x1b[2J " * 50 + "\n"
