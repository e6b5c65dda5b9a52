"""A process that teaches is killed at random moments and begun again until it is done: nothing is paid twice."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("teacher_driver.py")
READ, WRITTEN = 2.0, 8.0
KILLS = 20


def run(server: Any, journal: Path, count: int, budget: float, *flags: str) -> subprocess.Popen[str]:
    arguments = [server.url, str(journal), str(count), "16", str(budget), *flags]
    process = subprocess.Popen(
        [sys.executable, str(DRIVER), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def journaled(journal: Path) -> float:
    """US dollars that the journal counts."""
    database = sqlite3.connect(journal)
    try:
        return float(database.execute("SELECT SUM(cost) FROM sends").fetchone()[0]) / 1e12
    finally:
        database.close()


@pytest.mark.slow
@pytest.mark.parametrize("honours_keys", [True, False])
def test_twenty_kills(serve: Any, tmp_path: Path, honours_keys: bool) -> None:
    server, journal, count = serve(seconds=0.1, honours_keys=honours_keys), tmp_path / "journal.sqlite", 400
    budget, moments = 4.0, random.Random(7)
    in_flight_when_killed = 0
    for _ in range(KILLS):
        process = run(server, journal, count, budget)
        time.sleep(moments.uniform(0.0, 0.2))
        in_flight_when_killed += server.in_flight
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert server.cost(READ, WRITTEN) <= budget
    assert in_flight_when_killed > KILLS, "else no kill was at a moment that matters"
    process = run(server, journal, count, budget)
    told, faults = process.communicate()
    assert process.returncode == 0, faults
    answers = json.loads(told)
    assert [f"CT of patient {number}." in answer for number, answer in enumerate(answers)] == [True] * count
    assert len(server.bodies) == count
    if honours_keys:
        assert set(server.charged().values()) == {1}, "none is paid twice"
    assert server.cost(READ, WRITTEN) <= journaled(journal) + 1e-9 <= budget


@pytest.mark.slow
def test_twenty_sigterms(serve: Any, tmp_path: Path) -> None:
    server, journal, count = serve(seconds=0.1, honours_keys=False), tmp_path / "journal.sqlite", 400
    moments = random.Random(8)
    for number in range(KILLS):
        process = run(server, journal, count, 1.0)
        time.sleep(moments.uniform(0.0, 0.2))
        process.send_signal(signal.SIGTERM if number % 2 else signal.SIGINT)
        process.communicate()
        assert process.returncode in (130, -signal.SIGTERM, -signal.SIGINT), "before teaching began it dies at once"
    process = run(server, journal, count, 1.0)
    told, faults = process.communicate()
    assert process.returncode == 0, faults
    assert len(json.loads(told)) == len(server.charged()) == count
    assert set(server.charged().values()) == {1}, "what was in flight was awaited: no key need be honoured"
    assert server.cost(READ, WRITTEN) == pytest.approx(journaled(journal), rel=1e-9), "nothing is in doubt"


@pytest.mark.slow
def test_twenty_kills_with_batches(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, journal, count = serve(), tmp_path / "journal.sqlite", 200
    server.polls_until_done = 60
    slowly = server.call

    def call(*arguments: Any) -> Any:
        time.sleep(0.01)
        answer = slowly(*arguments)
        time.sleep(0.01)  # done at the server, not yet known to the client
        return answer

    monkeypatch.setattr(server, "call", call)
    moments = random.Random(9)
    for _ in range(KILLS):
        process = run(server, journal, count, 4.0, "--batch")
        time.sleep(moments.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = run(server, journal, count, 4.0, "--batch")
    told, faults = process.communicate()
    assert process.returncode == 0, faults
    assert len(json.loads(told)) == len(server.charged()) == count
    assert set(server.charged().values()) == {1}
    assert server.cost(READ, WRITTEN) == pytest.approx(journaled(journal), rel=1e-9)
