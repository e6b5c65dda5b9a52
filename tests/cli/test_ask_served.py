"""`llavamed ask` against a server: the same experience as with a model on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("LLAVAMED_MODEL", raising=False)
    monkeypatch.setenv("LLAVAMED_CONFIG", str(tmp_path / "config"))
    Image.new("RGB", (8, 8), "white").save(tmp_path / "white.png")
    return tmp_path / "white.png"


def test_the_answer_alone_is_on_stdout(llavamed: Run, serve: Any, picture: Path) -> None:
    server = serve()
    server.reply = lambda body: "It is white."
    outcome = llavamed("ask", picture, "What is it?", "--model", "vlm", "--base-url", server.url)
    assert (outcome.code, outcome.stdout) == (0, "It is white.\n")
    assert "esearch use only" in outcome.stderr.splitlines()[-1]


def test_json_has_what_the_server_tells(llavamed: Run, serve: Any, picture: Path) -> None:
    server = serve()
    server.reply = lambda body: "Yes."
    outcome = llavamed("ask", picture, "Is it?", "--model", "vlm", "--base-url", server.url, "--json", "--quiet")
    told = json.loads(outcome.stdout)
    assert told["answer"] == "Yes." and told["precision"] is None
    assert 0 < told["confidence"] < 1 and told["yes_no"]["yes"] > told["yes_no"]["no"]
    assert told["seconds"]["first_token"] <= told["seconds"]["answer"]


def test_several_questions_are_asked_anew(llavamed: Run, serve: Any, picture: Path) -> None:
    server = serve()
    server.reply = lambda body: "Yes."
    command = ("ask", picture, "-q", "One?", "-q", "Two?", "--model", "vlm", "--base-url", server.url)
    assert llavamed(*command).stdout == "> One?\nYes.\n\n> Two?\nYes.\n\n"
    assert all(len(body["messages"]) == 1 for body in server.bodies.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--base-url", "http://192.0.2.1/v1", "--model", "m"), "--yes"),
        (("--base-url", "http://127.0.0.1:9/v1"), "Add --model NAME"),
        (("--model", "openai:gpt-4o", "--yes"), "OPENAI_API_KEY is not set"),
        (("--base-url", "http://127.0.0.1:9/v1", "--model", "m", "--evidence", "map.png"), "--evidence"),
        (("--base-url", "nonsense", "--model", "m", "--yes"), "is no address"),
        (("--base-url", "http://[::1/v1", "--model", "m", "--yes"), "is no address"),
    ],
)
def test_what_cannot_be_asked_is_said_before(llavamed: Run, picture: Path, arguments: Any, said: str) -> None:
    outcome = llavamed("ask", picture, "What?", *arguments)
    assert outcome.code == 2 and said in outcome.stderr, outcome.stderr


@pytest.mark.parametrize("address", ["http://me:hunter2@192.0.2.1:abc/v1", "http://me:hunter2@192.0.2.1/v1"])
def test_a_password_in_an_address_is_neither_shown_nor_kept(llavamed: Run, picture: Path, address: str) -> None:
    outcome = llavamed("ask", picture, "What?", "--model", "m", "--base-url", address, "--yes")
    assert outcome.code == 2 and "hunter2" not in outcome.stdout + outcome.stderr
    kept = picture.parent / "config"
    assert not any(b"hunter2" in file.read_bytes() for file in kept.rglob("*") if file.is_file())
