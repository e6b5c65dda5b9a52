"""build-data with a teacher that is a model, from the command line, against a scripted server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
Draw = Callable[..., Path]
CAPTION = "Axial CT of the chest showing a round nodule of {} mm in the left upper lobe."
GROUNDED = "User: What is seen?\nAssistant: A round nodule of {} mm in the left upper lobe."
INVENTED = "User: Is there anything else?\nAssistant: A pleural effusion on the right."


@pytest.fixture
def pairs(tmp_path: Path, draw: Draw) -> Path:
    records = []
    for number in range(6):
        draw(tmp_path / "pictures" / f"{number}.png", seed=number)
        records.append({"image": f"{number}.png", "caption": CAPTION.format(number + 3)})
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


@pytest.fixture
def server(serve: Any, openai_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answers with a grounded exchange and an invented one."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def dialogue(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        size = next(word for word in asked.split() if word.isdigit())
        return f"{GROUNDED.format(size)}\n\n{INVENTED}"

    monkeypatch.setattr(openai_server, "dialogue", dialogue)
    return serve()


def arguments(pairs: Path, out: Path, server: Any, *more: str) -> list[str]:
    images = str(pairs.parent / "pictures")
    return [
        "build-data",
        str(pairs),
        "--images",
        images,
        "--out",
        str(out),
        "--teacher",
        "scripted",
        "--base-url",
        server.url,
        *more,
    ]


def conversations(out: Path) -> list[list[str]]:
    lines = (out / "instruct.jsonl").read_text(encoding="utf-8").splitlines()
    return [[turn["value"] for turn in json.loads(line)["conversations"]] for line in lines]


def test_what_the_picture_cannot_show_is_dropped_and_counted(
    pairs: Path, tmp_path: Path, server: Any, llavamed: Run
) -> None:
    built = llavamed(*arguments(pairs, tmp_path / "out", server, "--price", "2,8", "--json"))
    assert built.code == 0, built.stderr
    figures = json.loads(built.stdout)
    assert (figures["kept"], figures["instruct"], figures["questions"]) == (6, 6, 6)
    assert sum(figures["dropped_turns"].values()) == 6
    for number, turns in enumerate(conversations(tmp_path / "out")):
        assert turns == ["<image>\nWhat is seen?", f"A round nodule of {number + 3} mm in the left upper lobe."]
    assert figures["teacher"]["answers"] == 6
    assert figures["teacher"]["usd"] == pytest.approx(server.cost(2.0, 8.0))
    dropped = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in dropped} == {"turn"} and len(dropped) == 6
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "6 answers" in page and next(iter(figures["dropped_turns"])) in page


def test_the_budget_stops_it_and_a_larger_one_goes_on(pairs: Path, tmp_path: Path, server: Any, llavamed: Run) -> None:
    rehearsed = llavamed(*arguments(pairs, tmp_path / "out", server, "--price", "2,8", "--dry-run", "--json"))
    told = json.loads(rehearsed.stdout)["teacher"]
    assert told["requests"] == 6 and not server.sent
    little = str(told["usd_most"] / 6 * 1.1)  # one request at its dearest, and a little more
    short = llavamed(
        *arguments(pairs, tmp_path / "out", server, "--price", "2,8", "--concurrency", "1", "--budget", little)
    )
    assert short.code == 1 and "the budget of" in short.stderr and "--budget" in short.stderr
    assert not (tmp_path / "out" / "instruct.jsonl").exists()
    paid = server.cost(2.0, 8.0)
    assert 0 < paid <= float(little)
    whole = llavamed(*arguments(pairs, tmp_path / "out", server, "--price", "2,8", "--budget", "10"))
    assert whole.code == 0, whole.stderr
    assert len(conversations(tmp_path / "out")) == 6
    assert set(server.charged().values()) == {1}, "nothing is paid twice"


def test_a_server_that_refuses_is_one_sentence(
    pairs: Path, tmp_path: Path, server: Any, openai_server: Any, llavamed: Run
) -> None:
    server.script = lambda body, times: openai_server.error(401, "Incorrect API key provided")
    refused = llavamed(*arguments(pairs, tmp_path / "out", server))
    assert refused.code == 1 and "Traceback" not in refused.stderr and "401" in refused.stderr


def test_batches_give_the_same_conversations(pairs: Path, tmp_path: Path, server: Any, llavamed: Run) -> None:
    chat = llavamed(*arguments(pairs, tmp_path / "chat", server))
    batch = llavamed(*arguments(pairs, tmp_path / "batch", server, "--batch"))
    assert chat.code == 0 and batch.code == 0, chat.stderr + batch.stderr
    for name in ("align.jsonl", "instruct.jsonl", "rejected.jsonl"):
        assert (tmp_path / "chat" / name).read_bytes() == (tmp_path / "batch" / name).read_bytes()
    assert len(server.batch_charges) == 6
