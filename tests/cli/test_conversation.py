"""`llavamed ask` in a real terminal: a conversation, its commands, Ctrl-C in an answer, narrow and resized windows."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pexpect = pytest.importorskip("pexpect")
PROMPT = ">>>"
SECONDS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (40, 40), "white").save(folder / "white.png")
    Image.new("RGB", (40, 40), "black").save(folder / "black one.png")
    return folder


def start(folder: Path, model: Path, *arguments: str, columns: int = 80) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    environment.pop("LLAVAMED_ACKNOWLEDGE", None)
    return pexpect.spawn(
        sys.executable,
        ["-m", "llavamed_cli", "ask", *arguments, "--model", str(model)],
        cwd=str(folder),
        env=environment,
        dimensions=(24, columns),
        timeout=SECONDS,
        encoding="utf-8",
    )


def seen(text: str) -> str:
    """What a terminal shows, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r", "", text)


@pytest.fixture
def talk(folder: Path, tiny_model: Path) -> Iterator[Any]:
    child = start(folder, tiny_model, "white.png", "--max-new-tokens", "8")
    child.expect_exact(PROMPT)
    yield child
    child.close(force=True)


@pytest.mark.slow
def test_every_command_in_one_conversation(talk: Any, folder: Path) -> None:
    transcript = []

    def type_line(line: str, *expected: str) -> None:
        talk.sendline(line)
        for words in expected:
            talk.expect(words)
        transcript.append(line)

    type_line("/help", "/image FILE", "Ctrl-D leaves")
    type_line("/copy-command", "no question was asked yet")
    type_line("/retry", "nothing to retry")
    type_line("/imagine", "Did you mean /image")
    type_line("/image absent.png", "absent.png")
    type_line("Is it white?", "stops at its limit of 8 tokens")
    type_line("/copy-command", r"llavamed ask white\.png -q 'Is it white\?' --model")
    type_line("/image 'black one.png'", "about black one.png too")
    type_line("What changed?", "stops at its limit of 8 tokens")
    type_line("/save talk.json", r"Saved as talk\.json")
    type_line("/save talk.json", "left as it is")
    type_line("/save /proc/talk.txt", "No such file|Permission")
    type_line("/retry", "stops at its limit of 8 tokens")
    type_line("/reset", r"Begun again, with white\.png, black one\.png")
    type_line("/new 'black one.png'", r"with black one\.png alone")
    type_line("Is it black?", "stops at its limit of 8 tokens")
    type_line("/save talk.txt", r"Saved as talk\.txt")
    talk.sendeof()
    talk.expect("(?i)research use only")
    talk.expect(pexpect.EOF)
    talk.close()
    assert talk.exitstatus == 0
    (saved,) = json.loads((folder / "talk.json").read_text())
    assert saved["image"] == ["white.png", "black one.png"]
    asked = [turn["value"] for turn in saved["conversations"] if turn["from"] == "human"]
    assert asked == ["<image>\nIs it white?", "<image>\nWhat changed?"]
    told = (folder / "talk.txt").read_text()
    assert "> Is it black?" in told and "white?" not in told


@pytest.mark.slow
def test_the_copied_command_says_the_same(folder: Path, tiny_model: Path) -> None:
    """Also after other words were drawn for the answer, and with everything that the first command was given."""
    options = ["--max-new-tokens", "12", "--system", 'Be "brief".', "--device", "cpu", "--top-p", "0.9"]
    talk = start(folder, tiny_model, "white.png", *options, "--temperature", "0.8", columns=1000)
    talk.expect_exact(PROMPT)
    talk.sendline("What is it?")
    talk.expect("stops at its limit of 12 tokens")
    talk.sendline("/retry")
    talk.expect_exact("/retry")
    talk.expect(r"\n([^\n]+)\r\nThe answer stops at its limit of 12 tokens")
    said = seen(talk.match[1])
    talk.sendline("/copy-command")
    talk.expect(r"(llavamed ask white\.png -q [^\r\n]+)\r\n")
    command = shlex.split(seen(talk.match[1]))
    talk.close(force=True)
    done = subprocess.run(
        [sys.executable, "-m", "llavamed_cli", *command[1:]], cwd=folder, capture_output=True, text=True, check=True
    )
    first, again = ([sign for sign in text if sign.isprintable() and sign != " "] for text in (said, done.stdout))
    assert first == again != []  # a terminal is sent no control characters


@pytest.mark.slow
def test_an_unsure_answer_is_held_back_in_a_conversation_too(folder: Path, tiny_model: Path) -> None:
    talk = start(folder, tiny_model, "white.png", "--max-new-tokens", "40", "--decline-below", "1")
    talk.expect_exact(PROMPT)
    talk.sendline("What is it?")
    talk.expect("Declined: the model is 0")
    talk.expect_exact(PROMPT)
    talk.sendline("/save declined.txt")
    talk.expect("Saved as")
    talk.sendeof()
    talk.expect(pexpect.EOF)
    talk.close()
    assert talk.exitstatus == 0
    assert "> What is it?\n\nDeclined: the model is 0" in (folder / "declined.txt").read_text()


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_and_not_the_program(folder: Path, tiny_model: Path) -> None:
    child = start(folder, tiny_model, "white.png", "--max-new-tokens", "1500")
    child.expect_exact(PROMPT)
    child.sendline("Go on and on.")
    child.expect(r"on\.[\s\S]{80}")
    child.sendintr()
    child.expect_exact("[stopped]")
    child.expect_exact(PROMPT)
    child.setwinsize(24, 20)
    child.sendline("/reset")
    child.expect_exact("Begun again")
    child.sendintr()  # at the prompt it drops the line
    child.sendline("/quit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.slow
def test_a_terminal_of_20_columns_is_never_overrun(folder: Path, tiny_model: Path) -> None:
    child = start(folder, tiny_model, "white.png", "What is it?", "--max-new-tokens", "60", "--quiet", columns=20)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    answer = seen(child.before.partition("esearch use only")[0])
    assert len(answer.split("\n")) > 1 and max(len(line) for line in answer.split("\n")) <= 20


def test_without_a_terminal_a_question_is_required(llavamed: Any, folder: Path, tiny_model: Path) -> None:
    outcome = llavamed("ask", folder / "white.png", "--model", tiny_model)
    assert outcome.code == 2 and "no question is asked" in outcome.stderr
