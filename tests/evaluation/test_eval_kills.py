"""`llavamed eval` asking a server, killed at random moments and begun again: nothing is asked twice or paid twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

KILLS = 10
PICTURES, EACH = 40, 4


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """160 questions about 40 pictures, all different."""
    (tmp_path / "images").mkdir()
    lines = []
    for number in range(PICTURES):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
        for place in range(EACH):
            record = {"id": f"{number}-{place}", "image": f"{number}.png", "question": f"Is it {place}?"}
            lines.append(json.dumps({**record, "answer": "yes"}))
    (tmp_path / "bench.jsonl").write_text("\n".join(lines))
    return tmp_path / "bench.jsonl"


def begin(url: str, bench: Path, out: str) -> subprocess.Popen[str]:
    whos = ["m", "blind:m"]
    command = [*whos, "--base-url", url, "--on", str(bench), "--out", str(bench.parent / out), "--concurrency", "8"]
    return subprocess.Popen(
        [sys.executable, "-m", "llavamed_cli", "eval", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until it happened, or the process has ended."""
    give_up = time.monotonic() + 60
    while not happened() and process.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.005)


def killed_again_and_again(url: str, bench: Path, numbers: tuple[int, ...], progress: Callable[[], int]) -> int:
    """Begin the run KILLS times, each time stopped some answers later; then let it end.

    progress: how much has been done so far. Returns how many of the stopped runs were at work.
    """
    moments, at_work = random.Random(3), 0
    for kill in range(KILLS):
        process, before = begin(url, bench, "killed"), progress()
        wait_for(lambda before=before: progress() > before, process)  # type: ignore[misc]
        time.sleep(moments.uniform(0, 0.2))
        at_work += process.poll() is None
        process.send_signal(numbers[kill % len(numbers)])
        process.communicate()
    process = begin(url, bench, "killed")
    _, said = process.communicate()
    assert process.returncode == 0, said
    return at_work


def uninterrupted(url: str, bench: Path) -> Path:
    process = begin(url, bench, "whole")
    _, said = process.communicate()
    assert process.returncode == 0, said
    return bench.parent / "whole"


def assert_same(killed: Path, whole: Path) -> None:
    for name in ("answers.jsonl", "scores.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(signal.SIGKILL,), (signal.SIGTERM, signal.SIGINT)])
def test_ten_kills(serve: Any, bench: Path, numbers: tuple[int, ...]) -> None:
    """SIGKILL may leave requests in flight: their keys let the server answer them again for nothing. After SIGTERM or
    Ctrl-C what is in flight is awaited, and no key need be honoured."""
    server = serve(seconds=0.05, honours_keys=numbers == (signal.SIGKILL,))
    at_work = killed_again_and_again(server.url, bench, numbers, lambda: len(server.charges))
    assert at_work >= KILLS - 2, "else the run was over before it was killed so often"
    assert set(server.charged().values()) == {1}, "nothing is paid for twice"
    assert len(server.bodies) == PICTURES * EACH + EACH
    if numbers != (signal.SIGKILL,):
        assert set(server.sent.values()) == {1}, "nothing is asked twice"
    assert_same(bench.parent / "killed", uninterrupted(server.url, bench))


@pytest.mark.slow
def test_ten_kills_before_a_server_we_did_not_write(echo: SimpleNamespace, bench: Path) -> None:
    log = bench.parent / "killed" / "answers"

    def answered() -> int:
        return sum(file.read_bytes().count(b"\n") for file in log.rglob("*.jsonl"))

    killed_again_and_again(echo.url, bench, (signal.SIGKILL, signal.SIGTERM), answered)
    records = [json.loads(line) for line in (bench.parent / "killed" / "answers.jsonl").read_text().splitlines()]
    asked = Counter((record["model_id"], record["question_id"]) for record in records)
    assert len(asked) == 2 * PICTURES * EACH and set(asked.values()) == {1}
