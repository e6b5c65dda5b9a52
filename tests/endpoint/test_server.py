from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from llavamed_cli.endpoint.requests import OPENAI_URL
from llavamed_cli.endpoint.server import Endpoint, record_fault, resolve_url


def test_the_address_is_the_one_given_or_the_environments_or_openais(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert resolve_url(None) == OPENAI_URL
    assert resolve_url("http://localhost:1/v1/") == "http://localhost:1/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    assert resolve_url(None) == "http://elsewhere/v1"
    assert resolve_url("http://localhost:1/v1") == "http://localhost:1/v1"


def test_a_password_in_the_address_is_not_told() -> None:
    assert Endpoint(None, "https://me:secret@host:8443/v1", "m", "none").told == "host:8443"  # type: ignore[arg-type]
    assert Endpoint(None, "https://host/v1", "m", "none").told == "host"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "code", "said", "is_records"),
    [
        (400, "", "This model's maximum context length is 2048 tokens", True),
        (400, "context_length_exceeded", "x", True),
        (400, "content_filter", "x", True),
        (413, "", "x", True),
        (400, "", "Unsupported value: 'temperature'", False),
        (401, "content_filter", "x", False),
        (500, "", "context length", False),
    ],
)
def test_which_errors_are_one_records(status: int, code: str, said: str, is_records: bool) -> None:
    assert (record_fault(status, code, said) is not None) == is_records


@pytest.fixture(scope="module")
def echo() -> Iterator[SimpleNamespace]:
    """`llm-katan` with its echo backend: an OpenAI-compatible server that we did not write."""
    if importlib.util.find_spec("llm_katan") is None:
        pytest.skip("needs llm-katan (pip install llm-katan)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from llm_katan.cli import main; main()", "-m", "echo", "-b", "echo"]
    server = subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail("llm-katan did not start")
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/v1")
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.slow
def test_a_server_we_did_not_write(echo: SimpleNamespace, candidates: object, open_teacher: object) -> None:
    assert callable(candidates) and callable(open_teacher)
    for _ in range(2):
        with open_teacher(echo, name="echo", concurrency=8, parse=lambda text, figure: text) as teacher:
            answers = [answer for _, answer in teacher.teach(candidates(12))]
            spent = teacher.spent()
        assert len(answers) == 12 and all(answers)
        assert spent["answers"] == 12 and spent["tokens_written"] > 0
