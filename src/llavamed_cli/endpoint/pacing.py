"""When to ask again: what a server's headers say, or longer and longer; all threads heed what one of them was told."""

from __future__ import annotations

import email.utils
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from llavamed_cli.endpoint.stopping import Stop

SPREAD = 0.25
"""Of a wait: the share by which threads that wait together are spread, so that they do not return together."""
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_SECONDS = (86400.0, 3600.0, 60.0, 1.0, 0.001)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is borne with; seconds.

    tries: sends of one request that end in a fault of the server before the run stops.
    first_wait, longest_wait: between them, doubled each time, where the server names no other.
    refused_for: how long a rate limit may refuse every request; a longer wait that the server asks for stops the run.
    answer: for one answer. poll: between two looks at a batch, the first and the longest.
    """

    tries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0
    refused_for: float = 600.0
    answer: float = 600.0
    poll: tuple[float, float] = (2.0, 60.0)


class Pace:
    """Holds all threads back together, and knows when a server last answered."""

    def __init__(self, patience: Patience, stop: Stop) -> None:
        self.patience = patience
        self._stop = stop
        self._lock = threading.Lock()
        self._open_at = 0.0
        self._answered_at = time.monotonic()

    def enter(self, name: str) -> None:
        """Wait until requests may be sent. Raises StoppedError. name: of the request, to spread those that wait."""
        self._stop.wait(0)
        while (left := self._open_at - time.monotonic()) > 0:
            self._stop.wait(left + min(1.0, left) * SPREAD * random.Random(name).random())

    def answered(self, headers: Mapping[str, str]) -> None:
        """Note an answer, and hold everyone back where its headers say that nothing is left until a time."""
        self._answered_at = time.monotonic()
        if (wait := wait_for_more(headers)) is not None:
            self._hold(min(wait, self.patience.refused_for))

    def after_refusal(self, asked: float | None, tries: int, name: str) -> bool:
        """Wait after a rate limit's refusal. Returns False where patience is at its end. Raises StoppedError."""
        if asked is not None and asked > self.patience.refused_for:
            return False
        if time.monotonic() - self._answered_at > self.patience.refused_for:
            return False
        if asked:
            self._hold(asked)
            self.enter(name)
        else:
            self._stop.wait(self._backoff(tries, name))
        return True

    def after_fault(self, asked: float | None, tries: int, name: str) -> bool:
        """Wait after a fault of the server. Returns False where patience is at its end. Raises StoppedError."""
        if tries >= self.patience.tries or (asked is not None and asked > self.patience.refused_for):
            return False
        self._stop.wait(asked or self._backoff(tries, name))
        return True

    def _backoff(self, tries: int, name: str) -> float:
        wait = min(self.patience.first_wait * 2.0 ** min(tries - 1, 30), self.patience.longest_wait)
        return wait * (1 - SPREAD * random.Random(f"{name}/{tries}").random())

    def _hold(self, seconds: float) -> None:
        with self._lock:
            self._open_at = max(self._open_at, time.monotonic() + seconds)


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """The seconds that a refusal's headers ask to wait: retry-after-ms, Retry-After (seconds or a date), then the reset
    of the rate limit that is used up. None if they ask nothing that can be read."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (seconds := _number(headers.get(name))) is not None:
            return seconds * unit
    if (date := headers.get("retry-after")) is not None:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
        except (TypeError, ValueError, OverflowError):
            pass
    return wait_for_more(headers)


def wait_for_more(headers: Mapping[str, str]) -> float | None:
    """The seconds until a rate limit of which nothing remains is reset, by OpenAI's x-ratelimit headers."""
    waits = [
        wait
        for what in ("requests", "tokens")
        if _number(headers.get(f"x-ratelimit-remaining-{what}")) == 0
        and (wait := _duration(headers.get(f"x-ratelimit-reset-{what}"))) is not None
    ]
    return max(waits, default=None)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _duration(text: str | None) -> float | None:
    """Seconds of "1s", "6m0s", "20ms", "1h2m3s", or a bare number."""
    if (bare := _number(text)) is not None:
        return bare
    match = _DURATION.fullmatch(text or "")
    if not text or match is None:
        return None
    return sum(float(part) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True) if part)
