"""Ctrl-C and SIGTERM while training: a request that is met between two steps, after what was done is saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE_AFTER = 1.0
"""Seconds. A launcher hands a Ctrl-C on to processes that had it from the terminal already: that is no second one."""


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a request that is met between two steps; a second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    first = 0.0

    def request(number: int, frame: object) -> None:
        nonlocal first
        if stop.is_set() and number == signal.SIGINT and time.monotonic() - first > AT_ONCE_AFTER:
            raise KeyboardInterrupt
        if not stop.is_set():
            first = time.monotonic()
        stop.set()

    for number in previous:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
