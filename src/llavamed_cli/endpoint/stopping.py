"""How threads that ask a server are stopped together: by the first fault that ends the run, or by a signal.

What is in flight is awaited, because it is paid for; what has not been sent never is.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llavamed_cli.progress import Progress


class StoppedError(Exception):
    """Raised where work would begin or wait after a stop was asked for."""


class Stop:
    """A request to stop, seen by all threads. fault: why, where it was not a signal."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self._asked = threading.Event()
        self._lock = threading.Lock()

    def fail(self, fault: Exception) -> None:
        """Stop because of `fault`; the first one counts."""
        with self._lock:
            if not self._asked.is_set():
                self.fault = fault
                self._asked.set()

    def wait(self, seconds: float) -> None:
        """Sleep. Raises StoppedError as soon as a stop is asked for."""
        if self._asked.wait(max(0.0, seconds)):
            raise StoppedError

    def reason(self) -> BaseException:
        """What the run ends with: the fault, or KeyboardInterrupt after a signal."""
        return self.fault or KeyboardInterrupt()

    @contextmanager
    def on_signals(self, progress: Progress) -> Iterator[None]:
        """Meet Ctrl-C and SIGTERM within the block by a stop; a second one ends the process at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def ask(number: int, frame: object) -> None:
            for each in previous:
                signal.signal(each, signal.SIG_DFL)
            self._asked.set()
            progress.note("stopping: what is being answered now is awaited, for it is paid for; again to not wait")

        for number in previous:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
