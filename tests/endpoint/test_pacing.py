from __future__ import annotations

import email.utils
import threading
import time

import pytest

from llavamed_cli.endpoint.pacing import Pace, Patience, wait_asked, wait_for_more
from llavamed_cli.endpoint.stopping import Stop, StoppedError
from llavamed_cli.errors import EndpointError


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12"}, 12.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "tomorrow"}, None),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "1s"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "2s",
            },
            2.0,
        ),
    ],
)
def test_what_headers_ask(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_asked(headers) == seconds


def test_a_date_is_a_wait_until_then() -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    asked = wait_asked({"retry-after": later})
    assert asked is not None and 27 < asked <= 30
    assert wait_asked({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0


def test_a_limit_used_up_holds_everyone_back() -> None:
    pace = Pace(Patience(), Stop())
    pace.answered({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "200ms"})
    began = time.monotonic()
    pace.enter("a")
    assert 0.15 <= time.monotonic() - began < 1.0
    assert wait_for_more({"x-ratelimit-remaining-requests": "1"}) is None


def test_a_stop_ends_every_wait() -> None:
    stop = Stop()
    pace = Pace(Patience(first_wait=60, longest_wait=60), stop)
    threading.Timer(0.05, lambda: stop.fail(EndpointError("x"))).start()
    began = time.monotonic()
    with pytest.raises(StoppedError):
        pace.after_fault(None, 1, "a")
    with pytest.raises(StoppedError):
        pace.after_refusal(30.0, 1, "a")
    assert time.monotonic() - began < 5


def test_patience_ends() -> None:
    pace = Pace(Patience(tries=2, first_wait=0.001, refused_for=0.05), Stop())
    assert pace.after_fault(None, 1, "a")
    assert not pace.after_fault(None, 2, "a")
    assert not pace.after_refusal(10.0, 1, "a"), "a longer wait than patience"
    assert pace.after_refusal(0.01, 50, "a"), "refusals do not count as tries"
    time.sleep(0.1)
    assert not pace.after_refusal(0.01, 1, "a"), "no one was answered for too long"
    pace.answered({})
    assert pace.after_refusal(0.01, 1, "a")
