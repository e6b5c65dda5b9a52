"""A sign of life while somebody waits, in a real terminal."""

from __future__ import annotations

import re
import sys

import pytest

pexpect = pytest.importorskip("pexpect")

PROGRAM = """
import sys, time
from llavamed_cli.cli import terminal
terminal.PATIENCE = 0.2
with terminal.Terminal().waiting("reading") as heard:
    {work}
print("said", flush=True)
"""


def shown(work: str) -> str:
    child = pexpect.spawn(sys.executable, ["-c", PROGRAM.format(work=work)], timeout=60, encoding="utf-8")
    child.expect("said")
    before: str = child.before
    child.expect(pexpect.EOF)
    return before


def test_who_waits_sees_that_work_goes_on_and_then_nothing_of_it() -> None:
    text = shown("time.sleep(3)")
    assert re.search(r"reading.*0:00:0[12]", text)
    assert text.rstrip("\r\n").endswith("\x1b[2K") or text.endswith("\x1b[2K")  # the line is erased


@pytest.mark.parametrize("work", ["time.sleep(0.05)", "heard(); time.sleep(1)"])
def test_who_does_not_wait_sees_nothing(work: str) -> None:
    assert shown(work) == ""


def test_a_fault_takes_the_sign_away() -> None:
    text = shown("time.sleep(2)\n    sys.exit(print('said', flush=True))")
    assert "reading" in text and "Traceback" not in text
