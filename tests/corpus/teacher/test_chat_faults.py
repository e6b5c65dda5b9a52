from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.teacher.teaching import Drop, Taught
from llavamed_cli.endpoint.pacing import Patience
from llavamed_cli.errors import EndpointError

Teach = Callable[..., list[tuple[Candidate, Taught]]]


def completion(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (completion(None, refusal="I cannot help with that."), "the model refused"),
        (completion("User: a\nAssistant: b", finish="content_filter"), "the model refused"),
        (completion(""), "the answer is empty"),
        (completion(None), "the answer is empty"),
        ({**completion("x"), "choices": []}, "the answer is empty"),
        ('{"id": "c", "choices": [{"index": 0, "mess', "the answer was not whole JSON"),
    ],
)
def test_a_fault_within_one_answer_drops_that_record_and_is_paid_once(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach, fault: Any, reason: str
) -> None:
    def script(body: dict[str, Any], times: int) -> Any:
        return (
            openai_server.Fault(200, fault, charged=True) if "patient 1," in body["messages"][-1]["content"] else None
        )

    server = serve(script)
    for _ in range(2):
        lessons = teach(server, candidates(3))
        assert [bool(taught.exchanges) for _, taught in lessons] == [True, False, True]
        assert [drop.reason for drop in lessons[1][1].drops] == [reason]
    assert set(server.sent.values()) == {1}


def test_of_an_answer_that_was_cut_the_whole_exchanges_are_kept(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    cut = completion("User: a\nAssistant: b\n\nUser: c\nAssistant: half of", finish="length")
    server = serve(lambda body, times: openai_server.Fault(200, cut))
    ((_, taught),) = teach(server, candidates(1))
    assert taught.exchanges == (("a", "b"),)
    assert taught.drops == (Drop("the answer was cut at its most tokens"),)


def test_an_answer_that_took_all_its_tokens_was_cut_whatever_the_server_says(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    full = completion("User: a\nAssistant: b\n\nUser: c\nAssistant: half of")
    full["usage"]["completion_tokens"] = 1024
    server = serve(lambda body, times: openai_server.Fault(200, full))
    ((_, taught),) = teach(server, candidates(1))
    assert taught.exchanges == (("a", "b"),)


@pytest.mark.parametrize(
    ("status", "message", "code", "reason"),
    [
        (400, "This model's maximum context length is 2048 tokens.", None, "the record is too long for the model"),
        (400, "too big", "context_length_exceeded", "the record is too long for the model"),
        (413, "Payload too large", None, "the record is too long for the model"),
        (400, "Filtered by policy", "content_filter", "the model refused"),
    ],
)
def test_an_error_that_is_one_records_does_not_stop_the_others(
    serve: Any,
    openai_server: ModuleType,
    candidates: Any,
    teach: Teach,
    status: int,
    message: str,
    code: Any,
    reason: str,
) -> None:
    def script(body: dict[str, Any], times: int) -> Any:
        return openai_server.error(status, message, code) if "patient 0," in body["messages"][-1]["content"] else None

    server = serve(script)
    for _ in range(2):
        lessons = teach(server, candidates(2))
        assert lessons[0][1] == Taught(drops=(Drop(reason, message),))
        assert lessons[1][1].exchanges
    assert set(server.sent.values()) == {1}


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (401, "invalid_api_key", "401.*OPENAI_API_KEY"),
        (403, None, "403"),
        (404, "model_not_found", "404(.|\n)*--base-url"),
        (400, "unsupported_value", "400"),
        (422, None, "422"),
        (429, "insufficient_quota", "out of money"),
        (402, None, "out of money"),
    ],
)
def test_an_error_that_is_everyones_stops_the_run_with_one_message(
    serve: Any,
    openai_server: ModuleType,
    candidates: Any,
    teach: Teach,
    status: int,
    code: Any,
    told: str,
) -> None:
    def script(body: dict[str, Any], times: int) -> Any:
        bad = "patient 9," in body["messages"][-1]["content"]
        return openai_server.error(status, "the server's own words", code) if bad else None

    server = serve(script, seconds=0.01)
    with pytest.raises(EndpointError, match=f"(?s){told}") as caught:
        teach(server, candidates(200), concurrency=4)
    assert "the server's own words" in str(caught.value)
    assert sum(server.sent.values()) < 40, "what had not begun is never sent"
    server.script = lambda body, times: None
    teach(server, candidates(200), concurrency=4)
    assert set(server.charged().values()) == {1}, "what was paid for is kept"


@pytest.mark.parametrize("kind", ["500", "502", "429", "html", "nothing", "slow", "closed", "error in 200"])
def test_a_fault_that_passes_is_asked_again(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach, kind: str
) -> None:
    faults = {
        "500": openai_server.error(500, "oops"),
        "502": openai_server.Fault(502, "<html>Bad gateway</html>", kind="text/html"),
        "429": openai_server.error(429, "slow down", "rate_limit_exceeded"),
        "html": openai_server.Fault(200, "<!doctype html><html>Sign in</html>", kind="text/html"),
        "nothing": openai_server.Fault(200, ""),
        "slow": openai_server.Fault(200, "{}", seconds=4.0),
        "closed": openai_server.Fault(200, completion("x"), close=True),
        "error in 200": openai_server.Fault(200, {"error": {"message": "upstream", "code": 502}}),
    }
    server = serve(lambda body, times: faults[kind] if times == 1 else None)
    hurried = Patience(tries=3, first_wait=0.02, longest_wait=0.1, answer=2.0)
    lessons = teach(server, candidates(6), concurrency=3, patience=hurried)
    assert all(taught.exchanges for _, taught in lessons)
    assert set(server.sent.values()) == {2}


def test_a_fault_that_stays_ends_the_run_and_what_was_answered_is_kept(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    down = openai_server.error(503, "overloaded")
    server = serve(lambda body, times: down if "patient 3," in body["messages"][-1]["content"] else None)
    with pytest.raises(EndpointError, match=r"gave up after 4 tries.*503: overloaded(.|\n)*same command"):
        teach(server, candidates(6), concurrency=2)
    server.script = lambda body, times: None
    teach(server, candidates(6))
    assert set(server.charged().values()) == {1}


def test_no_server_at_all_is_said(openai_server: ModuleType, candidates: Any, teach: Teach) -> None:
    server = openai_server.ScriptedServer()
    server._http.server_close()
    with pytest.raises(EndpointError, match=r"no connection to 127\.0\.0\.1"):
        teach(server, candidates(2), budget=1.0)


def test_retry_after_is_heeded_by_every_thread(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    refused_at: list[float] = []
    times_of_sends: list[float] = []
    lock = threading.Lock()

    def script(body: dict[str, Any], times: int) -> Any:
        with lock:
            now = time.monotonic()
            if len(times_of_sends) == 10:
                refused_at.append(now)
            times_of_sends.append(now)
            limited = len(times_of_sends) == 11
        return openai_server.error(429, "limit", "rate_limit_exceeded", Retry_After="0.6") if limited else None

    server = serve(script, seconds=0.02)
    teach(server, candidates(40), concurrency=4)
    later = [moment - refused_at[0] for moment in times_of_sends if moment > refused_at[0] + 0.1]
    assert later and min(later) >= 0.6


def test_a_wait_of_hours_stops_the_run_instead(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    limited = openai_server.error(429, "daily limit", "rate_limit_exceeded", Retry_After="7200")
    server = serve(lambda body, times: limited)
    began = time.monotonic()
    with pytest.raises(EndpointError, match=r"daily limit.*7,200 s"):
        teach(server, candidates(3))
    assert time.monotonic() - began < 2


def test_json_of_an_answer_may_be_hostile(serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach) -> None:
    bodies = iter(
        [
            "[" * 100_000,
            json.dumps(
                {**completion("User: a\nAssistant: b"), "usage": {"prompt_tokens": -5, "completion_tokens": "9"}}
            ),
            json.dumps({"choices": [{"message": {"content": ["not", "text"]}}]}),
            json.dumps({"choices": {"0": 1}}),
        ]
    )
    server = serve(lambda body, times: openai_server.Fault(200, next(bodies)))
    lessons = teach(server, candidates(3), concurrency=1)
    assert len(lessons) == 3
