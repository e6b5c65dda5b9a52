"""`llavamed eval --judge` and `llavamed eval --reviews`, from the command line to scores.json."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHAT = 30
REVIEWS = 2 * CHAT
KILLS, AT_ONCE = 10, 3


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def arguments(chat: tuple[Path, Path], out: Path, server: Any, *more: str) -> list[str]:
    questions, answers = chat
    judge = ["--judge", "openai:scripted", "--judge-base-url", server.url, "--judge-price", "2,8", *more]
    return ["eval", f"answers:{answers}", "--on", f"llava-med-chat:{questions}", "--out", str(out), *judge]


def truth(number: int) -> tuple[int, int]:
    return 5 + number % 5, number % 7 + 1


def test_from_the_command_line_to_the_scores_and_back(
    serve: Any, known_judge: Any, chat: tuple[Path, Path], tmp_path: Path, llavamed: Callable[..., Any]
) -> None:
    server, out = serve(), tmp_path / "out"
    server.reply = known_judge(bonus=1)
    done = llavamed(*arguments(chat, out, server, "--judge-budget", "3"))
    assert done.code == 0, done.stderr
    assert "sees no picture" in done.stderr and "60 answers" in done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80

    scores = json.loads((out / "scores.json").read_text())
    judge = scores["benchmarks"]["llava-med-chat"]["judge"]
    (pair,) = judge["pairs"]
    assert (
        judge["model"] == "scripted" and judge["temperature"] == 0 and "two numbers" in judge["prompt"]["instruction"]
    )
    ratings = [truth(number) for number in range(CHAT)]
    published = statistics.mean(100 * b / min(10, a + 1) for a, b in ratings)
    assert pair["published"]["relative"]["value"] == pytest.approx(published)
    assert pair["corrected"]["difference"]["value"] == pytest.approx(statistics.mean(b - a for a, b in ratings))
    assert pair["published"]["pictures"] == 15 and set(pair["by"]["modality"]) == {"chest_xray", "mri"}
    assert f"{published:.1f} [" in done.stdout and "judge scripted" in done.stdout
    spent = json.loads((out / "run.json").read_text())["results"]["judge"]
    assert spent["answers"] == REVIEWS and spent["usd"] == pytest.approx(server.cost(2, 8))

    again = llavamed("eval", "--reviews", out / "reviews.jsonl", "--json")
    assert again.code == 0, again.stderr
    stored = json.loads(again.stdout)["benchmarks"]["llava-med-chat"]["judge"]
    assert stored["pairs"] == judge["pairs"] and stored["position"] == judge["position"]
    told = llavamed("eval", "--reviews", out / "reviews.jsonl").stdout
    assert "by question type" in told and "detailed_description" in told and max(map(len, told.splitlines())) <= 80

    sent = sum(server.sent.values())
    table = llavamed(*arguments(chat, out, server), "--markdown").stdout
    assert f"/ reference answer | 30 | {published:.1f} [" in table and "The first place wins" in table
    assert sum(server.sent.values()) == sent == REVIEWS


def test_what_cannot_be_done_is_said_before_anything_is_asked(
    serve: Any, chat: tuple[Path, Path], tmp_path: Path, llavamed: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    questions, answers = chat
    plain = ["eval", f"answers:{answers}", "--on", f"llava-med-chat:{questions}", "--out", out]
    for more, said in (
        (["--judge", "gpt-4o"], "OPENAI_API_KEY is not set"),
        (["--judge", "m", "--judge-base-url", "nonsense"], "--judge-base-url nonsense is no address"),
        (["--judge", "m", "--judge-base-url", "http://127.0.0.1:9/v1", "--judge-budget", "1"], "--judge-price"),
        (["--judge", "m", "--judge-price", "1"], "--judge-price 1: expected two numbers"),
        (["--judge-budget", "1"], "Add --judge MODEL"),
        (["--reviews", "x.jsonl"], "--reviews scores a file of reviews alone"),
    ):
        refused = llavamed(*plain, *more)
        assert refused.code == 2 and said in refused.stderr, refused.stderr
    assert not out.exists()
    assert "does not exist" in llavamed("eval", "--reviews", tmp_path / "none.jsonl").stderr
    assert llavamed("eval", f"answers:{answers}").code == 2


def test_a_review_that_is_not_two_numbers_is_counted(tmp_path: Path, llavamed: Callable[..., Any]) -> None:
    file = tmp_path / "theirs.jsonl"
    rows = [{"question_id": number, "type": "conversation", "gpt_eval": "8 4\nWhy."} for number in range(4)]
    rows[2]["gpt_eval"] = "Assistant 1: 8, Assistant 2: 4"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not JSON\n")
    done = llavamed("eval", "--reviews", file)
    assert done.code == 0 and "1 record(s) set aside, 4 kept" in done.stderr and f"{file}:5" in done.stderr
    assert "1 of 4 reviews cannot be read" in done.stdout and "50.0" in done.stdout
    assert "each question counts as one" in done.stdout


@pytest.mark.slow
def test_a_server_we_did_not_write(
    echo: Any, chat: tuple[Path, Path], tmp_path: Path, llavamed: Callable[..., Any]
) -> None:
    """It repeats what it is asked, which is no verdict: the run ends all the same, and says so."""
    out = tmp_path / "out"
    done = llavamed(*arguments(chat, out, echo))
    assert done.code == 0, done.stderr
    assert "60 of 60 reviews cannot be read" in done.stdout
    judge = json.loads((out / "scores.json").read_text())["benchmarks"]["llava-med-chat"]["judge"]
    assert judge["reviews"]["retried"] == 60 and judge["pairs"][0]["corrected"] is None
    assert "cannot be read" in llavamed(*arguments(chat, out, echo), "--markdown").stdout


@pytest.mark.slow
def test_ten_kills(serve: Any, known_judge: Any, chat: tuple[Path, Path], tmp_path: Path) -> None:
    """A real server process's client is killed, while reviews are under way, and begun again: none is asked twice."""
    server, out = serve(seconds=0.15), tmp_path / "out"
    server.reply = known_judge(bonus=1)
    command = [sys.executable, "-m", "llavamed_cli", *arguments(chat, out, server, "--concurrency", str(AT_ONCE))]
    in_flight_when_killed = 0
    for kill in range(KILLS):
        before = sum(server.sent.values())
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        while sum(server.sent.values()) < before + 4 and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None, (kill, process.communicate())
        in_flight_when_killed += server.in_flight
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (out / "reviews.jsonl").exists()
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert in_flight_when_killed > KILLS, "else no kill was at a moment that matters"
    assert len(server.bodies) == REVIEWS
    assert sum(server.sent.values()) <= REVIEWS + KILLS * AT_ONCE, "sent again is at most what was in flight"
    assert set(server.charged().values()) == {1} and len(server.charged()) == REVIEWS, "nothing is paid twice"

    straight = tmp_path / "straight"
    whole = subprocess.run(
        [*command[:3], *arguments(chat, straight, server)], capture_output=True, text=True, env=environment()
    )
    assert whole.returncode == 0, whole.stderr
    for name in ("scores.json", "reviews.jsonl", "answers.jsonl"):
        assert (out / name).read_bytes() == (straight / name).read_bytes(), "as if it had never been killed"


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
