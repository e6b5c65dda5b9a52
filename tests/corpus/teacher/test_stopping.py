from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from llavamed_cli.endpoint.stopping import Stop, StoppedError
from llavamed_cli.progress import Silent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_stop_and_what_is_in_flight_is_kept(
    number: int, serve: Any, candidates: Any, open_teacher: Any
) -> None:
    server = serve(seconds=0.1, honours_keys=False)
    before = signal.getsignal(number)
    with open_teacher(server, concurrency=4) as teacher, pytest.raises(KeyboardInterrupt):
        for place, _ in enumerate(teacher.teach(candidates(40))):
            if place == 5:
                os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
    paid = len(server.charged())
    assert 5 < paid < 40
    with open_teacher(server) as teacher:
        assert len(list(teacher.teach(candidates(40)))) == 40
        assert teacher.spent()["usd_in_doubt"] == 0.0
    assert set(server.charged().values()) == {1}


def test_the_first_fault_is_the_reason() -> None:
    stop = Stop()
    stop.wait(0)
    first = ValueError("first")
    stop.fail(first)
    stop.fail(ValueError("second"))
    with pytest.raises(StoppedError):
        stop.wait(0)
    assert stop.reason() is first


def test_handlers_are_put_back_and_a_second_signal_would_end_the_process() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stop().on_signals(Silent()):
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == before
