"""A picture in a terminal of every kind: what a program reads that stands where a terminal would."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

from llavamed_cli.asking.show import show_picture

PROGRAM = """
import sys
from PIL import Image
from llavamed_cli.asking.show import show_picture
show_picture(Image.open(sys.argv[1]), sys.stdout)
print("shown")
"""


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("COLUMNS", "80"), ("LINES", "24")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def half_blocks(text: str) -> numpy.ndarray:
    """The pixels that a terminal paints, uint8 [rows, columns, 3], read off its control sequences."""
    rows: list[list[tuple[int, ...]]] = []
    for line in text.rstrip("\n").split("\n"):
        cells = re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀\x1b\[0m", line)
        rows += [[tuple(map(int, cell[part : part + 3])) for cell in cells] for part in (0, 3)]
    return numpy.array(rows, dtype=numpy.uint8)


@pytest.mark.parametrize("size", [(300, 200), (20, 900), (900, 20), (1, 1)])
def test_half_blocks_are_the_picture(size: tuple[int, int]) -> None:
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    stream = Terminal()
    show_picture(picture, stream)
    painted = half_blocks(stream.getvalue())
    rows, columns, _ = painted.shape
    assert columns <= 60 and rows <= 2 * 14
    assert numpy.array_equal(painted, numpy.asarray(picture.resize((columns, rows))))
    if min(size) > 100:
        assert columns / rows == pytest.approx(size[0] / size[1], rel=0.1)


def test_twenty_columns_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    show_picture(Image.new("RGB", (300, 200), "red"), stream)
    assert half_blocks(stream.getvalue()).shape[1] == 20


@pytest.mark.parametrize("reason", ["a file", "dumb", "no colour", "latin-1"])
def test_nothing_is_printed_where_it_would_be_noise(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream: io.StringIO = io.StringIO() if reason == "a file" else Terminal()
    if reason == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    if reason == "no colour":
        monkeypatch.setenv("NO_COLOR", "")
    if reason == "latin-1":
        monkeypatch.setattr(Terminal, "encoding", "iso-8859-1")
    show_picture(Image.new("RGB", (8, 8)), stream)
    assert stream.getvalue() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="drives a pseudo-terminal")
@pytest.mark.parametrize(("kind", "mark"), [("sixel", "\x1bP"), ("kitty", "f=100"), ("plain", "▀"), ("piped", "▀")])
def test_every_terminal_gets_what_it_can_draw(kind: str, mark: str, tmp_path: Path) -> None:
    """`piped`: a question comes by stdin, so the terminal cannot be asked what it is."""
    import pexpect

    picture = tmp_path / "picture.png"
    Image.linear_gradient("L").resize((60, 40)).save(picture)
    command = [sys.executable, "-c", PROGRAM, str(picture)]
    if kind == "piped":
        command = ["sh", "-c", 'echo question | "$@"', "sh", *command]
    child = pexpect.spawn(
        command[0], command[1:], dimensions=(24, 80), timeout=60, encoding="utf-8", env=dict(os.environ)
    )
    questions = [r"\x1b\[c", r"\x1b_G[^\x1b]*a=q[^\x1b]*\x1b\\", r"\x1b\[16t", "shown"]
    read, asked = "", 0
    while (found := child.expect(questions)) != 3:
        asked += 1
        read += child.before
        number = re.search(r"i=(\d+)", child.after)
        if found == 0:
            child.send("\x1b[?62;4c" if kind == "sixel" else "\x1b[?62c")
        if found == 1 and number and kind == "kitty":
            child.send(f"\x1b_Gi={number[1]};OK\x1b\\")
        if found == 2:
            child.send("\x1b[6;20;10t")
    read += child.before
    child.expect(pexpect.EOF)
    assert mark in read and "Traceback" not in read
    assert (asked == 0) == (kind == "piped")
