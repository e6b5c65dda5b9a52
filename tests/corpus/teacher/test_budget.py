from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llavamed_cli.endpoint.budget import OutOfBudgetError, Purse
from llavamed_cli.endpoint.journal import Answered, open_journal
from llavamed_cli.endpoint.prices import Price, Tokens, picodollars
from llavamed_cli.endpoint.requests import Request
from llavamed_cli.endpoint.stopping import Stop, StoppedError
from llavamed_cli.errors import EndpointError, UsageError

PRICE = Price(read=3, written=7)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bounds=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=120),
    limit=st.integers(0, 60_000),
    seed=st.integers(0, 2**32),
)
def test_64_threads_never_pass_the_budget(
    bounds: list[tuple[int, int]], limit: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against a bank of the test's own: what is charged, at most the bound, at the moment of sending."""
    path = tmp_path_factory.mktemp("budget") / "journal.sqlite"
    bank, lock, most = 0, threading.Lock(), 0
    with open_journal(path) as journal:
        purse, stop = Purse(journal, PRICE, limit), Stop()

        def send(place: int) -> bool:
            nonlocal bank, most
            chance = random.Random(f"{seed}/{place}")
            bound = Tokens(*bounds[place])
            request = Request(f"{place:064x}", {}, bound, bound)
            try:
                number = purse.reserve(request, stop)
            except OutOfBudgetError:
                return False
            fate = chance.choice(["answered", "refused", "lost"])
            used = Tokens(chance.randint(0, bound.read), chance.randint(0, bound.written))
            with lock:
                bank += 0 if fate == "refused" else PRICE.cost(used)
                most = max(most, bank)
            if fate == "answered":
                purse.settle(number, request, Answered(text="x", read=used.read, written=used.written))
            else:
                purse.give_back(number, fate, charged=fate == "lost")
            return True

        with ThreadPoolExecutor(64) as pool:
            sent = list(pool.map(send, range(len(bounds))))
        assert most <= limit
        assert bank <= journal.committed <= limit
        if sum(PRICE.cost(Tokens(*bound)) for bound in bounds) <= limit:
            assert all(sent), "nothing is refused where everything fits at its worst"
        assert journal.spent().cost == journal.committed


def test_the_purse_waits_for_room_before_it_is_empty(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        purse, stop = Purse(journal, Price(1, 1), 10), Stop()
        first, second = (Request(name * 64, {}, Tokens(0, 8), Tokens(0, 8)) for name in "ab")
        send = purse.reserve(first, stop)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(purse.reserve, second, stop)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.1)
            purse.settle(send, first, Answered(text="x", written=2))
            purse.settle(waiting.result(timeout=5), second, Answered(text="x", written=8))
        with pytest.raises(OutOfBudgetError):
            purse.reserve(Request("c" * 64, {}, Tokens(0, 1), Tokens(0, 1)), stop)


def test_a_stop_is_seen_by_those_who_wait_for_room(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        purse, stop = Purse(journal, Price(1, 1), 10), Stop()
        purse.reserve(Request("a" * 64, {}, Tokens(0, 8), Tokens(0, 8)), stop)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(purse.reserve, Request("b" * 64, {}, Tokens(0, 8), Tokens(0, 8)), stop)
            stop.fail(EndpointError("x"))
            with pytest.raises(StoppedError):
                waiting.result(timeout=5)


def test_teaching_stops_at_the_budget_and_goes_on_with_a_larger_one(
    serve: Any, candidates: Any, open_teacher: Any
) -> None:
    server, budget = serve(seconds=0.01), 0.05
    with open_teacher(server, budget=budget, concurrency=64) as teacher:
        lessons = []
        with pytest.raises(EndpointError) as caught:
            for lesson in teacher.teach(candidates(300)):
                lessons.append(lesson)
    answered = len(server.charged())
    assert 0 < answered < 300 and server.most_in_flight > 1
    assert server.cost(2.0, 8.0) <= budget
    assert f"{300 - answered} figures are left ({300 - answered} requests" in str(caught.value)
    assert "larger --budget" in str(caught.value)
    with open_teacher(server, budget=1.0, concurrency=64) as teacher:
        assert len(list(teacher.teach(candidates(300)))) == 300
    assert set(server.charged().values()) == {1} and len(server.charged()) == 300


def test_the_budget_is_used_up_to_less_than_one_request(serve: Any, candidates: Any, open_teacher: Any) -> None:
    server, budget = serve(), 0.05
    with open_teacher(server, budget=budget, concurrency=32) as teacher:
        with pytest.raises(EndpointError):
            list(teacher.teach(candidates(300)))
        bound = teacher.asker.purse.cost(teacher.asker.form.request(candidates(1)[0].figure).bound) / 1e12
    assert budget - server.cost(2.0, 8.0) < 1.2 * bound


def test_a_lost_answer_counts_in_full_with_a_server_that_charges_again(
    serve: Any, openai_server: ModuleType, candidates: Any, open_teacher: Any
) -> None:
    lost = openai_server.Fault(200, "x" * 100, close=True, charged=True)
    server = serve(lambda body, times: lost if times == 1 else None, honours_keys=False)
    with open_teacher(server, budget=0.2, concurrency=8) as teacher, pytest.raises(EndpointError, match="budget"):
        list(teacher.teach(candidates(60)))
    assert set(server.charged().values()) <= {1, 2} and 2 in server.charged().values()
    assert server.cost(2.0, 8.0) <= 0.2


def test_a_budget_needs_a_price(serve: Any, open_teacher: Any, candidates: Any) -> None:
    server = serve()
    with pytest.raises(UsageError, match="--price"), open_teacher(server, price=None, budget=1.0):
        pass
    with open_teacher(server, price=None) as teacher:
        list(teacher.teach(candidates(1)))
        assert teacher.spent()["usd"] is None and "price unknown" in teacher.spent()["told"]
    with open_teacher(server, price=None, name="gpt-4o-mini", budget=1.0) as teacher:
        list(teacher.teach(candidates(1)))
        assert 0 < teacher.spent()["usd"] < 0.001


def test_a_budget_in_picodollars_is_rounded_down() -> None:
    assert picodollars(0.1) == 10**11
    assert picodollars(5) == 5 * 10**12
    assert picodollars(1e-13) == 0
