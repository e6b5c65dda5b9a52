from __future__ import annotations

import random
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from llavamed_cli.corpus.sources import polite_http
from llavamed_cli.corpus.sources.polite_http import Patience, PoliteClient
from llavamed_cli.errors import FetchError
from llavamed_cli.progress import Silent


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def status(response: Any) -> int:
    return int(response.status_code)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What clients would have slept, without the sleep."""
    slept: list[float] = []
    monkeypatch.setattr(PoliteClient, "_sleep", lambda self, seconds: slept.append(seconds) if seconds > 0 else None)
    return slept


def test_waits_are_drawn_below_a_bound_that_doubles(pmc: Any, fault: Any, waits: list[float]) -> None:
    pmc.fail("x", fault(status=503), forever=True)
    patience = Patience(tries=7, first_wait=1.0, longest_wait=10.0)
    client = PoliteClient(pmc.url, connections=1, patience=patience, jitter=random.Random(3))
    with client, pytest.raises(FetchError, match="503"):
        client.ask(status, "x")
    drawn = random.Random(3)
    assert waits == [drawn.uniform(0, bound) for bound in (1, 2, 4, 8, 10, 10)]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_what_a_server_asks_for_is_waited_and_told(form: str, pmc: Any, fault: Any, waits: list[float]) -> None:
    pmc.put("x", b"x")
    later = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20), usegmt=True)
    pmc.fail("x", fault(status=429, headers={"Retry-After": "20" if form == "seconds" else later}))
    notes = Notes()
    with PoliteClient(pmc.url, connections=1, progress=notes) as client:
        assert client.ask(status, "x") == 200
    assert 18 < waits[0] < 21 and len(notes.notes) == 1 and "127.0.0.1 asks to wait" in notes.notes[0]


@pytest.mark.parametrize("value", ["soon", "-5", "", "Mon, 99 Foo", "Thu, 01 Jan 1970 00:00:00 GMT", "٣"])
def test_what_it_asks_for_in_vain(value: str, pmc: Any, fault: Any, waits: list[float]) -> None:
    assert polite_http._retry_after(value) == 0.0


def test_a_request_takes_its_turn(pmc: Any) -> None:
    pmc.put("x", b"x")
    begun = time.monotonic()
    with PoliteClient(pmc.url, connections=1, interval=0.05) as client:
        for _ in range(3):
            client.ask(status, "x")
    assert time.monotonic() - begun >= 0.15


def test_progress_gives_patience_anew_but_not_for_ever(
    pmc: Any, fault: Any, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polite_http, "MAX_ATTEMPTS", 9)

    def gain(response: Any) -> None:
        raise polite_http.TransientError(FetchError("broken"), advanced=True)

    pmc.put("x", b"x")
    with PoliteClient(pmc.url, connections=1, patience=Patience(tries=2)) as client, pytest.raises(FetchError):
        client.ask(gain, "x")
    assert pmc.asked() == {"x": 9}


def test_proxies_and_redirects_do_not_lead_elsewhere(pmc: Any, fault: Any) -> None:
    pmc.fail("x", fault(status=307, headers={"Location": f"{pmc.url}y"}), forever=True)
    with PoliteClient(pmc.url, connections=1) as client, pytest.raises(FetchError, match="no redirect is followed"):
        client.ask(status, "x")
    assert pmc.asked() == {"x": 1}
