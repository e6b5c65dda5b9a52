"""HTTP as a guest should use it: few connections, waits when told to, tries again with patience, follows nobody.

What is worth asking again (a busy server, a body that breaks off) is told from what is not (an absent object), and an
object's fault (DataError: one record is set aside) from the server's (FetchError: the command is to be repeated).
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from llavamed_cli import __version__
from llavamed_cli.errors import DataError, FetchError, LlavamedError, UsageError, first_line
from llavamed_cli.progress import Progress, Silent

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Self

Answer = TypeVar("Answer")

BUSY = frozenset([408, 425, 429, 500, 502, 503, 504])
ABSENT = frozenset([403, 404, 410])
"""A bucket that may not be listed answers 403 for what it does not hold (S3, GetObject)."""
TO_RECEIVE = frozenset([200, 206, 416])
MAX_ATTEMPTS = 50
"""In all, also when each attempt gains something."""
WORTH_TELLING = 5.0
"""Seconds of waiting from which on the person is told."""
REPEAT = "Repeat the command later; what was fetched is kept."

_MD5 = re.compile(r'"([0-9a-fA-F]{32})"')


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is tried.

    tries: failures in a row, without progress between them. first_wait, longest_wait: seconds; the wait is drawn below
    a bound that doubles from one to the other. longest_asked: the longest Retry-After that is obeyed. timeout: seconds
    of silence after which an answer is given up.
    """

    tries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0
    longest_asked: float = 600.0
    timeout: float = 30.0


class TransientError(Exception):
    """What came may come out right when it is asked for again.

    error: what to raise once patience ends. advanced: something was gained, so patience begins anew. asked: seconds
    that the server asks to wait.
    """

    def __init__(self, error: LlavamedError, *, advanced: bool = False, asked: float = 0.0) -> None:
        super().__init__(error.what)
        self.error = error
        self.advanced = advanced
        self.asked = asked


class PoliteClient:
    """One server. Threads may share it.

    Args:
        url: every address is below it.
        connections: at most so many at a time.
        interval: seconds between the beginnings of two requests, whoever makes them; also before the first.
        jitter: draws the waits. It shapes no result, so any generator will do.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        interval: float = 0.0,
        patience: Patience | None = None,
        jitter: random.Random | None = None,
        progress: Progress | None = None,
    ) -> None:
        import httpx

        self.url = _checked(url)
        self._patience = patience or Patience()
        self._jitter = jitter or random.Random()
        self._progress = progress or Silent()
        self._interval = interval
        self._next_turn = time.monotonic() + interval
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._reason = FetchError("fetching was stopped", where=self.url, hint=REPEAT)
        self._client = httpx.Client(
            headers={"User-Agent": f"llavamed/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(self._patience.timeout, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    def stop(self, reason: FetchError | None = None) -> None:
        """End what threads wait for or receive: each raises `reason`. Nothing can be asked afterwards."""
        if not self._stopped.is_set():
            self._reason = reason or self._reason
            self._stopped.set()

    def ask(
        self,
        receive: Callable[[httpx.Response], Answer],
        address: str = "",
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        headers: Callable[[], Mapping[str, str]] = dict,
        must_be_there: bool = False,
    ) -> Answer:
        """Return what `receive` makes of the answer, asking again as often as patience allows.

        Args:
            receive: is given an answer of status 200, 206 or 416 whose body is still to be read; raises TransientError.
            form: is sent as a form (POST); it stands in no log.
            headers: are asked for before each attempt.
            must_be_there: an address without which the service is not this service, such as its search.

        Raises:
            DataError: the server has no such object, or what `receive` raises. FetchError: the server is not to be
                reached, is busy for too long, refuses, or leads elsewhere.
        """
        method = "GET" if form is None else "POST"
        failures = 0
        for attempt in range(1, MAX_ATTEMPTS + 1):
            self._take_turn()
            try:
                request = self._client.build_request(
                    method, self.url + address, params=query, data=form, headers=headers()
                )
                return self._ask_once(request, receive, must_be_there)
            except TransientError as again:
                failures = 1 if again.advanced else failures + 1
                if failures >= self._patience.tries or attempt == MAX_ATTEMPTS:
                    raise again.error from again
                self._wait(failures, again.asked)
        raise AssertionError("unreachable")

    def blocks(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it comes, its bytes as they are stored.

        Raises:
            httpx.TransportError: it breaks off. FetchError: `stop` was called.
        """
        for block in response.iter_raw():
            self._raise_if_stopped()
            yield block

    def read(self, response: httpx.Response, limit: int) -> bytes:
        """A small body, whole; checked against its ETag where that is an MD5.

        Raises:
            TransientError: it breaks off, or is not what the ETag says. DataError: more than `limit` bytes.
        """
        import hashlib

        import httpx

        body = bytearray()
        try:
            for block in self.blocks(response):
                body += block
                if len(body) > limit:
                    raise DataError(f"more than {limit:,} bytes, more than such an answer ever has")
        except httpx.TransportError as error:
            raise TransientError(
                FetchError(f"its answer breaks off: {first_line(error)}", where=self.url, hint=REPEAT)
            ) from error
        expected = md5_of_etag(response)
        if expected and hashlib.md5(body, usedforsecurity=False).hexdigest() != expected:
            raise TransientError(DataError("its bytes are not those that its MD5 was made of"))
        return bytes(body)

    def _ask_once(
        self, request: httpx.Request, receive: Callable[[httpx.Response], Answer], must_be_there: bool
    ) -> Answer:
        import httpx

        try:
            response = self._client.send(request, stream=True)
        except httpx.TransportError as error:
            what = f"cannot be reached: {first_line(error)}"
            raise TransientError(FetchError(what, where=self.url, hint=REPEAT)) from error
        with closing(response):
            if response.status_code not in TO_RECEIVE:
                raise self._refusal(response, must_be_there)
            return receive(response)

    def _refusal(self, response: httpx.Response, must_be_there: bool) -> Exception:
        status = response.status_code
        if status in BUSY:
            asked = _retry_after(response.headers.get("Retry-After"))
            error = FetchError(f"the server answers {status} {response.reason_phrase}", where=self.url, hint=REPEAT)
            if asked <= self._patience.longest_asked:
                return TransientError(error, asked=asked)
            return FetchError(f"{error.what}, and asks to wait {asked:.0f} s", where=self.url, hint=REPEAT)
        if response.is_redirect:
            target = urlsplit(response.headers.get("Location", ""))
            return FetchError(
                f"the server leads to {target.hostname or 'another address'}; no redirect is followed",
                where=self.url,
                hint="If that server is to be trusted, give its address instead.",
            )
        if status in ABSENT and not must_be_there:
            return DataError(f"the server has no such object ({status})", where=str(response.url))
        return FetchError(f"the server answers {status} {response.reason_phrase}", where=self.url)

    def _take_turn(self) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next_turn)
            self._next_turn = turn + self._interval
        self._sleep(turn - now)

    def _wait(self, failures: int, asked: float) -> None:
        """Back off (exponentially, with full jitter: M. Brooker, 2015), after what the server asks for.

        What it asks of one holds for all: no other request begins before.
        """
        bound = min(self._patience.longest_wait, self._patience.first_wait * 2 ** (failures - 1))
        with self._lock:
            self._next_turn = max(self._next_turn, time.monotonic() + asked)
            delay = asked + self._jitter.uniform(0, bound)
        if asked >= WORTH_TELLING:
            self._progress.note(f"{urlsplit(self.url).hostname} asks to wait {asked:.0f} s")
        self._sleep(delay)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._stopped.wait(seconds)
        self._raise_if_stopped()

    def _raise_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise self._reason


def md5_of_etag(response: httpx.Response) -> str | None:
    """The MD5 that an ETag of S3 is, unless the object was put there in parts."""
    found = _MD5.fullmatch(response.headers.get("ETag", ""))
    return found[1].lower() if found else None


def _retry_after(value: str | None) -> float:
    """Seconds to wait (RFC 9110, 10.2.3: a number of them, or a date)."""
    if not value:
        return 0.0
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    zoned = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, (zoned - datetime.now(timezone.utc)).total_seconds())


def _checked(url: str) -> str:
    """The address of a server, ending in a slash."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:  # brackets that do not close, a port that is no number
        whole = False
    if not whole or "?" in url or "#" in url:
        raise UsageError("no address of a server", where=url, hint="It looks like https://example.org/ .")
    return url if url.endswith("/") else f"{url}/"
