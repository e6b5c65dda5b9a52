from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.teacher.teaching import Taught
from llavamed_cli.errors import EndpointError, UsageError

Teach = Callable[..., list[tuple[Candidate, Taught]]]


def completion(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def test_every_figure_is_answered_in_order_and_asked_once(serve: Any, candidates: Any, teach: Teach) -> None:
    server = serve(seconds=0.02)
    figures = candidates(30)
    lessons = teach(server, figures, concurrency=8)
    assert [candidate for candidate, _ in lessons] == figures
    for candidate, taught in lessons:
        assert taught.exchanges[0] == ("What is seen?", candidate.figure.caption)
    assert 4 < server.most_in_flight <= 8
    assert set(server.charged().values()) == {1} and len(server.charged()) == 30


def test_what_is_sent_is_deterministic_and_says_how_much_may_be_written(
    serve: Any, candidates: Any, teach: Teach
) -> None:
    server = serve()
    teach(server, candidates(1))
    (body,) = server.bodies.values()
    assert body == {
        "model": "scripted",
        "messages": [
            {"role": "system", "content": "Write a dialogue."},
            {"role": "user", "content": "Axial CT of patient 0, with a nodule."},
        ],
        "max_tokens": 1024,
        "temperature": 0.0,
    }


def test_a_repeated_run_pays_nothing_even_if_answers_are_read_otherwise(
    serve: Any, candidates: Any, teach: Teach
) -> None:
    server = serve()
    first = teach(server, candidates(5))
    assert teach(server, candidates(5)) == first
    other = teach(server, candidates(5), parse=lambda text, figure: Taught((("all", text),)))
    assert all(taught.exchanges[0][1].startswith("User:") for _, taught in other)
    assert sum(server.sent.values()) == 5


def test_another_model_or_text_is_another_question(serve: Any, candidates: Any, candidate: Any, teach: Teach) -> None:
    server = serve()
    teach(server, candidates(1))
    teach(server, candidates(1), name="another")
    teach(server, [candidate(0, "Another caption.")])
    assert sum(server.sent.values()) == 3


def test_figures_that_share_their_text_are_asked_about_once(serve: Any, candidate: Any, teach: Teach) -> None:
    server = serve(seconds=0.05)
    panels = [candidate(number, "One caption.") for number in range(20)]
    lessons = teach(server, panels, concurrency=10)
    assert sum(server.sent.values()) == 1
    assert len({taught for _, taught in lessons}) == 1


def test_answers_of_another_run_are_not_paid_for_again(
    serve: Any, candidates: Any, teach: Teach, tmp_path: Path
) -> None:
    server = serve()
    there = tmp_path / "there" / "journal.sqlite"
    teach(server, candidates(3), journal=there)
    teach(server, candidates(5), other_journals=[there])
    assert sum(server.sent.values()) == 5
    teach(server, candidates(5))
    assert sum(server.sent.values()) == 5, "copied, so that the other journal may go"
    with pytest.raises(UsageError, match="no journal"):
        teach(server, candidates(1), other_journals=[tmp_path / "absent.sqlite"])


def test_the_key_is_sent_and_never_written(
    serve: Any,
    openai_server: ModuleType,
    candidates: Any,
    open_teacher: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = "sk-very-secret-key-1234567890"
    server = serve()
    with_key = open_teacher(server)
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    with with_key as teacher:
        list(teacher.teach(candidates(2)))
        server.script = lambda body, times: openai_server.Fault(200, completion(f"User: a\nAssistant: {secret}"))
        lessons = list(teacher.teach(candidates(3)))
    assert all(headers["authorization"] == f"Bearer {secret}" for headers in server.seen_headers)
    assert lessons[2][1].exchanges == (("a", "[key]"),)
    server.script = lambda body, times: openai_server.error(401, f"Incorrect API key provided: {secret}")
    with pytest.raises(EndpointError) as caught, open_teacher(server) as teacher:
        list(teacher.teach(candidates(4)))
    assert secret not in str(caught.value) and "[key]" in str(caught.value)
    for file in tmp_path.rglob("*"):
        assert secret.encode() not in (file.read_bytes() if file.is_file() else b""), file


def test_a_server_of_ones_own_needs_no_key_and_openai_does(
    serve: Any, candidates: Any, teach: Teach, open_teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    teach(server, candidates(1))
    assert server.seen_headers[0]["authorization"] == "Bearer none"
    monkeypatch.setattr(server, "url", None)
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"), open_teacher(server):
        pass
    monkeypatch.setattr(server, "url", "localhost:8000")
    with pytest.raises(UsageError, match="is no address"), open_teacher(server):
        pass


def test_usage_is_counted_and_its_absence_said(serve: Any, candidates: Any, open_teacher: Any) -> None:
    server = serve()
    with open_teacher(server) as teacher:
        list(teacher.teach(candidates(4)))
        spent = teacher.spent()
        assert spent["answers"] == 4 and spent["estimated"] == 0
        assert spent["usd"] == pytest.approx(server.cost(2.0, 8.0), rel=1e-9)
        server.usage = False
        list(teacher.teach(candidates(5)))
        spent = teacher.spent()
    assert spent["estimated"] == 1 and spent["usd"] > server.cost(2.0, 8.0)
    assert "no token counts for 1" in spent["told"]


def test_a_bug_in_reading_an_answer_loses_nothing(serve: Any, candidates: Any, teach: Teach) -> None:
    server = serve()

    def broken(text: str, figure: Any) -> Taught:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        teach(server, candidates(3), parse=broken)
    teach(server, candidates(3))
    assert set(server.sent.values()) == {1}


def test_a_caption_of_odd_characters_is_sent(serve: Any, candidate: Any, teach: Teach) -> None:
    server = serve()
    ((_, taught),) = teach(server, [candidate(0, "lone \udcff surrogate, \x00 and 肺")])
    assert "肺" in taught.exchanges[0][1]


def test_two_runs_do_not_share_a_journal_at_once(serve: Any, candidates: Any, open_teacher: Any) -> None:
    server = serve()
    with open_teacher(server) as teacher:
        with pytest.raises(UsageError, match="another llavamed"), open_teacher(server):
            pass
        assert len(list(teacher.teach(candidates(1)))) == 1


def test_what_was_in_flight_at_a_death_counts_in_full_until_and_after_it_is_asked_again(
    serve: Any, candidates: Any, teach: Teach, open_teacher: Any, tmp_path: Path
) -> None:
    server = serve()
    teach(server, candidates(1))
    with sqlite3.connect(tmp_path / "journal.sqlite") as database:
        database.execute("INSERT INTO sends (key, state, cost) VALUES ('abc', 'in flight', 5000000000000)")
    database.close()
    with open_teacher(server) as teacher:
        spent = teacher.spent()
    assert spent["usd_in_doubt"] == 5.0 and spent["usd"] > 5.0
    assert "1 requests of unknown fate" in spent["told"]
