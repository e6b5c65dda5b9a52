from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.teacher import batch_api
from llavamed_cli.corpus.teacher.batch_journal import BatchJournal
from llavamed_cli.corpus.teacher.teaching import Taught
from llavamed_cli.endpoint.journal import Journal
from llavamed_cli.errors import EndpointError, UsageError
from llavamed_cli.progress import Silent

Teach = Callable[..., list[tuple[Candidate, Taught]]]
READ, WRITTEN = 2.0, 8.0


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of at most four requests."""
    made = batch_api.BatchTeacher.__post_init__

    def post_init(teacher: batch_api.BatchTeacher) -> None:
        teacher.size = 4
        made(teacher)

    monkeypatch.setattr(batch_api.BatchTeacher, "__post_init__", post_init)


def test_a_batch_answers_every_figure_in_order_at_half_price(serve: Any, candidates: Any, open_teacher: Any) -> None:
    server, notes = serve(), Notes()
    with open_teacher(server, batch=True, budget=5.0, progress=notes) as teacher:
        lessons = list(teacher.teach(candidates(9)))
        assert teacher.spent()["usd"] == pytest.approx(server.cost(READ, WRITTEN), rel=1e-9)
    assert [taught.exchanges[0][1] for _, taught in lessons] == [c.figure.caption for c in candidates(9)]
    assert len(server.batches) == 1 and not server.charges
    assert notes.said == ["batch batch_0: 9 requests submitted", "batch batch_0 completed: 9 of 9 answered"]


def test_batches_and_calls_share_their_answers(serve: Any, candidates: Any, teach: Teach) -> None:
    server = serve()
    teach(server, candidates(3))
    batched = teach(server, candidates(6), batch=True)
    assert batched == teach(server, candidates(6))
    assert len(server.charges) == 3 and len(server.batch_charges) == 3


def test_many_requests_become_several_batches(serve: Any, candidates: Any, teach: Teach, small: None) -> None:
    server = serve()
    assert len(teach(server, candidates(10), batch=True)) == 10
    assert len(server.batches) == 3
    assert set(server.charged().values()) == {1}


class Death(BaseException):
    """Stands for kill -9: nothing of ours runs after it."""


@contextmanager
def dying_at(step: int, monkeypatch: pytest.MonkeyPatch, server: Any) -> Iterator[None]:
    """Die at the `step`-th boundary: before and after each thing done at the server, and each thing journaled."""
    passed = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal passed
            passed += 1
            if passed == step:
                raise Death
            result = function(*arguments, **named)
            passed += 1
            if passed == step:
                raise Death
            return result

        return call

    with monkeypatch.context() as patch:
        for name in ("plan", "uploaded", "created", "close"):
            patch.setattr(BatchJournal, name, counted(getattr(BatchJournal, name)))
        from openai.resources.batches import Batches
        from openai.resources.files import Files

        for owner, name in ((Files, "create"), (Files, "content"), (Batches, "create"), (Batches, "retrieve")):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield


def test_a_death_between_any_two_steps_costs_nothing(
    serve: Any, candidates: Any, teach: Teach, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = 0
    for step in range(1, 100):
        server, journal = serve(), tmp_path / f"{step}.sqlite"
        server.polls_until_done = 0
        try:
            with dying_at(step, monkeypatch, server):
                teach(server, candidates(3), batch=True, journal=journal)
        except Death:
            steps += 1
        else:
            break
        lessons = teach(server, candidates(3), batch=True, journal=journal)
        assert all(taught.exchanges for _, taught in lessons), step
        assert set(server.charged().values()) == {1} and len(server.charged()) == 3, step
        assert len(server.batches) == 1, step
        uploads = sum(name.startswith("llavamed") for name, _ in server.files.values())
        assert uploads == 1, f"step {step}: an orphan upload is found again"
    assert steps == 16, "eight steps, before and after each"


def test_an_uncertain_creation_is_looked_for_before_it_is_repeated(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    server = serve()

    def script(call: str, times: int) -> Any:
        if call == "POST /v1/batches" and times == 1:
            return openai_server.Fault(502, "<html>Bad gateway</html>", kind="text/html", charged=True)
        return None

    server.call_script = script
    teach(server, candidates(3), batch=True)
    assert len(server.batches) == 1 and set(server.charged().values()) == {1}


def test_what_a_batch_leaves_out_is_asked_in_another(serve: Any, candidates: Any, teach: Teach) -> None:
    server = serve()
    server.batch_script = lambda number: "expired" if number < 2 else "completed"
    lessons = teach(server, candidates(8), batch=True, budget=1.0)
    assert all(taught.exchanges for _, taught in lessons)
    assert len(server.batches) == 3 and set(server.charged().values()) == {1}
    assert len({batch["metadata"]["llavamed"] for batch in server.batches.values()}) == 3


def test_a_batch_cancelled_by_a_person_is_collected_and_ends_the_run(serve: Any, candidates: Any, teach: Teach) -> None:
    server = serve()
    server.batch_script = lambda number: "completed" if number else "cancelled"
    with pytest.raises(EndpointError, match="batch_0 was cancelled"):
        teach(server, candidates(4), batch=True)
    assert all(taught.exchanges for _, taught in teach(server, candidates(4), batch=True))
    assert set(server.charged().values()) == {1}


def test_faults_inside_a_batch_are_told_a_record_at_a_time(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    empty = {"choices": [{"message": {"content": ""}}], "usage": {"prompt_tokens": 1, "completion_tokens": 0}}
    too_long = openai_server.error(400, "maximum context length is 10 tokens", "context_length_exceeded")
    faults = {
        "patient 0,": openai_server.Fault(200, empty, charged=True),
        "patient 1,": too_long,
        "patient 2,": openai_server.error(400, "no such voice"),
        "patient 3,": openai_server.error(500, "the server's fault"),
        "patient 4,": openai_server.Fault(200, {"choices": []}, close=True, charged=True),
    }

    def script(body: dict[str, Any], batch: int) -> Any:
        return next((fault for name, fault in faults.items() if name in body["messages"][-1]["content"]), None)

    server = serve()
    server.line_script = script
    for _ in range(2):
        lessons = teach(server, candidates(7), batch=True)
        assert [[(drop.reason, drop.detail) for drop in taught.drops] for _, taught in lessons[:4]] == [
            [("the answer is empty", None)],
            [("the record is too long for the model", "maximum context length is 10 tokens")],
            [("the server failed on it", "400: no such voice")],
            [("the server failed on it", "500: the server's fault")],
        ]
        assert lessons[4][1].drops[0].reason == "the answer was not whole JSON"
        assert all(taught.exchanges for _, taught in lessons[5:])
    assert len(server.batches) == 3, "the fault that might pass was tried three times, alone"
    assert set(server.charged().values()) == {1}


def test_a_fault_that_passes_inside_a_batch_is_asked_again(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    server = serve()
    busy = openai_server.error(429, "slow down")
    server.line_script = lambda body, batch: busy if batch == 0 and "patient 1," in str(body) else None
    assert all(taught.exchanges for _, taught in teach(server, candidates(3), batch=True))
    assert set(server.charged().values()) == {1}


def test_a_fault_of_every_request_stops_the_run(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    server = serve()
    server.line_script = lambda body, batch: openai_server.error(400, "temperature is not supported")
    with pytest.raises(EndpointError, match="every request failed: 400: temperature is not supported"):
        teach(server, candidates(3), batch=True)
    server.line_script = lambda body, batch: None
    assert all(taught.exchanges for _, taught in teach(server, candidates(3), batch=True))


def test_a_full_queue_makes_smaller_batches(serve: Any, candidates: Any, teach: Teach, small: None) -> None:
    server = serve()
    server.batch_script = lambda number: "failed" if number == 0 else "completed"
    assert all(taught.exchanges for _, taught in teach(server, candidates(4), batch=True))
    assert [len(server.files[batch["input_file_id"]][1].splitlines()) for batch in server.batches.values()] == [4, 2, 2]
    assert set(server.charged().values()) == {1}


def test_a_batch_that_always_fails_ends_the_run(serve: Any, candidates: Any, teach: Teach) -> None:
    server = serve()
    server.batch_script = lambda number: "failed"
    with pytest.raises(EndpointError, match="failed: Enqueued token limit reached"):
        teach(server, candidates(1), batch=True)


def test_a_small_budget_is_spent_batch_by_batch_and_never_passed(serve: Any, candidates: Any, teach: Teach) -> None:
    server = serve()
    six_at_worst = 6 * (2.0 * 250 + 8.0 * 1024) / 1e6 / 2
    with pytest.raises(EndpointError, match=r"--budget: the budget of \$0.0261 does not reach"):
        teach(server, candidates(300), batch=True, budget=six_at_worst)
    answered = len(server.charged())
    assert 100 < answered < 300 and len(server.batches) > 2
    assert server.cost(READ, WRITTEN) <= six_at_worst
    teach(server, candidates(300), batch=True, budget=1.0)
    assert len(server.charged()) == 300 and set(server.charged().values()) == {1}


def test_calls_wait_for_batches_that_were_paid_for(
    serve: Any, candidates: Any, teach: Teach, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    with pytest.raises(Death), dying_at(8, monkeypatch, server):
        teach(server, candidates(3), batch=True)
    with pytest.raises(UsageError, match=r"1 batches(.|\n)*--batch"):
        teach(server, candidates(3))
    teach(server, candidates(3), batch=True)
    teach(server, candidates(3))
    assert set(server.charged().values()) == {1}


def test_a_server_without_the_batch_api_says_so_and_calls_still_work(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    server = serve()
    server.call_script = lambda call, times: openai_server.error(404, "Not Found")
    with pytest.raises(EndpointError, match="404"):
        teach(server, candidates(3), batch=True)
    assert len(teach(server, candidates(3))) == 3


def test_a_wrong_key_leaves_a_batch_to_be_collected(
    serve: Any, openai_server: ModuleType, candidates: Any, teach: Teach
) -> None:
    server = serve()
    wrong = openai_server.error(401, "no")
    server.call_script = lambda call, times: wrong if call.startswith("GET /v1/batches/") else None
    with pytest.raises(EndpointError, match="401"):
        teach(server, candidates(3), batch=True)
    server.call_script = lambda call, times: None
    assert len(teach(server, candidates(3), batch=True)) == 3
    assert len(server.batches) == 1


def test_waiting_costs_no_open_transaction(serve: Any, candidates: Any, open_teacher: Any) -> None:
    server = serve()
    server.polls_until_done = 5
    with open_teacher(server, batch=True) as teacher:
        assert isinstance(teacher.asker.journal, Journal)
        list(teacher.teach(candidates(2)))
    assert server.batches["batch_0"]["polls"] == 6
