"""`llavamed eval` with models of a server: one command line, several answerers, bad input, and what leaves."""

from __future__ import annotations

import base64
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.endpoint import asking
from llavamed_cli.endpoint.pacing import Patience

Run = Callable[..., Any]
PICTURES = 8


def look(body: dict[str, Any]) -> str:
    """A server's model that tells white from black, and says no where it sees none."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return "No." if "Is it" in content else "black"
    picture, text = content
    data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    white = Image.open(io.BytesIO(data)).getpixel((0, 0)) == (255, 255, 255)
    return ("Yes, it is." if white else "No.") if "Is it" in text["text"] else "white" if white else "black"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """16 questions about 8 pictures, half of them white, all different."""
    (tmp_path / "images").mkdir()
    lines = []
    for number in range(PICTURES):
        white = number % 2 == 0
        picture = Image.new("RGB", (9, 9), "white" if white else "black")
        picture.putpixel((8, 8), (number, 0, 0))
        picture.save(tmp_path / "images" / f"patient-{number}.png")
        asked = {"Is it white?": "yes" if white else "no", "What colour is it?": "white" if white else "black"}
        for index, (text, answer) in enumerate(asked.items()):
            record = {"id": f"{number}-{index}", "image": f"patient-{number}.png", "question": text, "answer": answer}
            lines.append(json.dumps(record))
    (tmp_path / "bench.jsonl").write_text("\n".join(lines))
    return tmp_path / "bench.jsonl"


@pytest.fixture
def server(serve: Any) -> Any:
    made = serve()
    made.reply = look
    return made


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "Patience", lambda: Patience(tries=2, first_wait=0.01, longest_wait=0.02))


def arguments(server: Any, bench: Path, out: str, *more: object) -> list[object]:
    whos = ["big", "blind:openai:big", "small"]
    return ["eval", *whos, "--base-url", server.url, "--on", bench, "--out", bench.parent / out, *more]


def test_several_models_of_a_server_make_one_table(llavamed: Run, server: Any, bench: Path) -> None:
    outcome = llavamed(*arguments(server, bench, "out", "--json"))
    assert outcome.code == 0, outcome.stderr
    scores = json.loads(outcome.stdout)["benchmarks"]["bench"]
    right = {who: read["overall"]["strict"]["accuracy"]["value"] for who, read in scores["answerers"].items()}
    assert right == {"big": 100, "blind:big": 50, "small": 100}
    assert {(one["first"], one["second"]) for one in scores["differences"]} == {
        ("big", "blind:big"),
        ("big", "small"),
        ("blind:big", "small"),
    }
    out = bench.parent / "out"
    assert {path.name for path in (out / "answers").iterdir()} == {"big", "blind+big", "small"}
    assert len((out / "answers.jsonl").read_text().splitlines()) == 3 * 2 * PICTURES
    assert {body["model"] for body in server.bodies.values()} == {"big", "small"}
    assert "patient" not in json.dumps(list(server.bodies.values()))
    assert "price unknown" in outcome.stderr
    again = llavamed(*arguments(server, bench, "out", "--json"))
    assert again.code == 0 and json.loads(again.stdout) == json.loads(outcome.stdout)
    assert set(server.sent.values()) == {1}


def test_a_key_is_written_nowhere(llavamed: Run, server: Any, bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    outcome = llavamed(*arguments(server, bench, "out"))
    assert outcome.code == 0 and "sk-secret" not in outcome.stdout + outcome.stderr
    assert all(b"sk-secret" not in path.read_bytes() for path in (bench.parent / "out").rglob("*") if path.is_file())
    assert {head["authorization"] for head in server.seen_headers} == {"Bearer sk-secret"}


def test_another_server_or_model_in_the_folder_is_refused(
    llavamed: Run, server: Any, serve: Any, openai_server: Any, bench: Path, hurried: None
) -> None:
    server.script = lambda body, times: openai_server.error(500, "broken") if body["model"] == "small" else None
    cut = llavamed(*arguments(server, bench, "out"))
    assert cut.code == 1 and "gave up after 2 tries" in cut.stderr and "Traceback" not in cut.stderr
    other = llavamed(*arguments(serve(), bench, "out"))
    assert other.code == 2 and "this folder holds another run" in other.stderr and "input big" in other.stderr
    fewer = llavamed("eval", "big", "--base-url", server.url, "--on", bench, "--out", bench.parent / "out")
    assert fewer.code == 2 and "WHO:" in fewer.stderr
    server.script = lambda body, times: None
    server.sent.clear()
    dearer = arguments(server, bench, "out", "--concurrency", 3, "--price", "1,1", "--budget", 9)
    outcome = llavamed(*dearer)
    assert outcome.code == 0, "how it is paid for may change"
    assert {server.bodies[key]["model"] for key in server.sent} == {"small"}


def test_a_budget_stops_the_run_and_a_larger_one_goes_on(llavamed: Run, server: Any, bench: Path) -> None:
    stopped = llavamed(*arguments(server, bench, "out", "--price", "1,1", "--budget", 0.0219, "--concurrency", 1))
    assert stopped.code == 1
    assert "the budget of" in stopped.stderr and "questions are left" in stopped.stderr
    assert 0 < server.cost(1, 1) <= 0.0219
    assert llavamed(*arguments(server, bench, "out", "--price", "1,1", "--budget", 1)).code == 0
    assert set(server.sent.values()) == {1}
    database = sqlite3.connect(bench.parent / "out" / "journal.sqlite")
    (cost,) = database.execute("SELECT SUM(cost) FROM sends").fetchone()
    database.close()
    assert cost / 1e12 == pytest.approx(server.cost(1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["openai:gpt-4o"], "OPENAI_API_KEY is not set"),
        (["openai:gpt-4o", "--base-url", "not an address"], "is no address"),
        (["openai:unheard-of", "--base-url", "{url}", "--budget", "1"], "--price READ,WRITTEN"),
        (["openai:m", "--base-url", "{url}", "--budget", "0"], "above 0"),
        (["openai:m", "--base-url", "{url}", "--price", "cheap"], "--price cheap"),
        (["majority", "--base-url", "{url}"], "--base-url is for servers"),
        (["openai:m", "--base-url", "http://10.11.12.13/v1"], "leave this machine, for 10.11.12.13"),
        (["blind:answers:x", "--base-url", "{url}"], "does not exist"),
        (["clip:nowhere"], "no such folder: expected a CLIP's"),
        (["cascade:nowhere.toml"], "cascade file does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_asked(
    llavamed: Run, server: Any, bench: Path, monkeypatch: pytest.MonkeyPatch, change: list[str], message: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    out = bench.parent / "out"
    outcome = llavamed("eval", *(part.format(url=server.url) for part in change), "--on", bench, "--out", out)
    assert outcome.code == 2 and message in outcome.stderr and "Traceback" not in outcome.stderr
    assert not out.exists() and not server.sent


def test_a_benchmark_of_one_picture_has_no_intervals_and_says_so(llavamed: Run, server: Any, bench: Path) -> None:
    outcome = llavamed(
        "eval", "m", "--base-url", server.url, "--on", bench, "--limit", 2, "--out", bench.parent / "out"
    )
    assert outcome.code == 0, outcome.stderr
    scores = json.loads((bench.parent / "out" / "scores.json").read_text())["benchmarks"]["bench"]
    overall = scores["answerers"]["m"]["overall"]
    assert (overall["n"], overall["pictures"], overall["small"]) == (2, 1, True)
    assert overall["strict"]["accuracy"] == {"value": 100, "low": None, "high": None}


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_benchmark_is_refused(llavamed: Run, server: Any, bench: Path, content: str) -> None:
    bench.write_text(content)
    outcome = llavamed("eval", "m", "--base-url", server.url, "--on", bench, "--out", bench.parent / "out")
    assert outcome.code == 1 and "no question is left to ask" in outcome.stderr and not server.sent


def test_an_answer_that_never_comes_is_wrong_and_said(
    llavamed: Run, server: Any, openai_server: Any, bench: Path
) -> None:
    server.script = lambda body, times: openai_server.error(400, "flagged", "content_filter")
    outcome = llavamed("eval", "m", "--base-url", server.url, "--on", bench, "--out", bench.parent / "out", "--json")
    assert outcome.code == 0, outcome.stderr
    read = json.loads(outcome.stdout)["benchmarks"]["bench"]["answerers"]["m"]
    assert read["absent"] == 2 * PICTURES and read["overall"]["strict"]["accuracy"]["value"] == 0
    assert f"{2 * PICTURES} question(s): the model refused; counted as wrong" in outcome.stderr
