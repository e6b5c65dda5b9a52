"""A model folder of ours behind a server that we did not write says over HTTP what it says here: pictures arrive whole.

`transformers serve` is that server (it comes with transformers; its FastAPI with llm-katan).
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

STARTS_WITHIN = 120
"""Seconds."""


@pytest.fixture(scope="module")
def served(tiny_model: Path) -> Iterator[str]:
    """The address of `transformers serve` with the tiny model."""
    program = Path(sys.executable).with_name("transformers")
    if importlib.util.find_spec("fastapi") is None or not program.is_file():
        pytest.skip("needs transformers[serving]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", tiny_model],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"},
    )
    try:
        give_up = time.monotonic() + STARTS_WITHIN
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None or time.monotonic() > give_up:
                pytest.skip("transformers serve does not start here")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.slow
def test_a_served_model_answers_as_it_does_here(
    served: str, tiny_model: Path, llavamed: Callable[..., Any], tmp_path: Path
) -> None:
    there, here = f"openai:{tiny_model}", str(tiny_model)
    outcome = llavamed(
        *("eval", there, f"blind:{there}", here, f"blind:{here}", "--base-url", served, "--concurrency", 2),
        *("--on", "phantoms:3", "--max-new-tokens", 6, "--device", "cpu", "--out", tmp_path / "out"),
    )
    assert outcome.code == 0, outcome.stderr
    said: dict[str, dict[str, str]] = {}
    for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines():
        answer = json.loads(line)
        if answer["text"]:  # a server's empty answer is none
            said.setdefault(answer["model_id"], {})[answer["question_id"]] = answer["text"].strip()
    name = tiny_model.name
    assert said[name] == said[f"{name}-2"]
    assert said[f"blind:{name}"] == said[f"blind:{name}-2"]
    assert len(set(said[f"blind:{name}"].values())) > 3, "else equal answers mean little"
    assert said[name] != said[f"blind:{name}"]


@pytest.mark.slow
def test_ask_streams_from_a_served_model_what_it_says_here(
    served: str, tiny_model: Path, llavamed: Callable[..., Any], tmp_path: Path
) -> None:
    words = 0
    for number in range(6):
        picture = tmp_path / f"{number}.png"
        Image.effect_noise((40, 30), 40 + 20 * number).convert("RGB").save(picture)
        command = (
            "ask",
            picture,
            f"What is shown in {number}?",
            "--model",
            tiny_model,
            "--max-new-tokens",
            8,
            "--quiet",
        )
        here = llavamed(*command)
        assert here.code == 0, here.stderr
        said = here.stdout.strip().rstrip("\ufffd").strip()  # the limit may cut a character in half
        if said:
            there = llavamed(*command, "--base-url", served)
            assert there.code == 0, there.stderr
            assert there.stdout.strip() == said
            words += 1
    assert words, "the model said nothing, which proves nothing"


@pytest.mark.slow
def test_a_served_model_is_asked_as_one_here_is(
    served: str, tiny_model: Path, llavamed: Callable[..., Any], tmp_path: Path
) -> None:
    """A conversation's first answer, about one picture and about two, word for word; streamed by that server."""
    files = [tmp_path / "green.png", tmp_path / "red.png"]
    for file in files:
        Image.new("RGB", (60, 40), file.stem).save(file)
    for shown in (files[:1], files):
        asked = ("ask", *shown, "What is seen?", "--model", tiny_model, "--max-new-tokens", 8, "--json", "--quiet")
        here, there = llavamed(*asked, "--device", "cpu"), llavamed(*asked, "--base-url", served)
        assert here.code == there.code == 0, here.stderr + there.stderr
        one, other = json.loads(here.stdout), json.loads(there.stdout)
        assert (one["answer"], one["finish"], one["tokens"]) == (other["answer"], other["finish"], other["tokens"])
