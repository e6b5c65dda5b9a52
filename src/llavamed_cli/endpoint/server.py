"""An OpenAI-compatible server, and what each of its faults means: ask again, leave this record out, or stop.

The `openai` client's own retries are off for what is paid: each send is reserved and journaled, a retry too. It follows
no redirection: a request that holds pictures goes to the address that was named, and to no other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llavamed_cli.endpoint.journal import Answered
from llavamed_cli.endpoint.pacing import wait_asked
from llavamed_cli.endpoint.requests import (
    OPENAI_URL,
    QUOTED,
    REFUSED,
    NotAnAnswerError,
    Request,
    describe_body,
    read_completion,
)
from llavamed_cli.errors import EndpointError, LlavamedError, UsageError, first_line

if TYPE_CHECKING:
    import openai

KEY_VARIABLE, URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
NO_KEY = "none"
CONNECT_SECONDS = 10.0
SDK_RETRIES = 5
"""Of calls that cost nothing: the client's own, which heed Retry-After."""
TOO_LONG = "the record is too long for the model"
NEVER_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""httpx's faults (by name: newer clients use another httpx) after which no server can have charged."""
UNCERTAIN = (408, 500, 502, 504)
"""Statuses that a gateway may send while the server behind it finishes, and charges."""
REFUSALS = (409, 429)
"""Statuses of a request that is not let in now: a rate limit, or its Idempotency-Key is still being answered."""
_LONG_CODES = ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length", "request_too_large")
_LONG_WORDS = ("context length", "context size", "context window", "maximum context", "too long", "too many tokens")
_REFUSED_CODES = ("content_filter", "content_policy_violation", "invalid_prompt")
_NO_MONEY_CODES = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
ADDRESS = "Check --base-url, which usually ends in /v1."
GO_ON = "What was paid for is kept: the same command goes on from there."


class PassingError(Exception):
    """A fault that may pass. refused: by a rate limit. charged: the answer may have been paid for. wait: as asked."""

    def __init__(self, what: str, *, refused: bool = False, charged: bool = False, wait: float | None = None) -> None:
        super().__init__(what)
        self.what, self.refused, self.charged, self.wait = what, refused, charged, wait


class UnfitError(Exception):
    """A fault of one record alone. reason: one of few. detail: what the server said."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Endpoint:
    """A server, for one model. url: without the key; `told` names it in messages."""

    client: openai.OpenAI
    url: str
    model: str
    _secret: str

    @property
    def told(self) -> str:
        """See `told_host`."""
        return told_host(self.url)

    def ask(self, request: Request) -> tuple[Answered, Mapping[str, str]]:
        """Send one request, once; the answer, and the headers it came with.

        Raises:
            PassingError: it may be sent again. EndpointError: nothing will come of this run.
        """
        try:
            with self._faults():
                reply = self.client.chat.completions.with_raw_response.create(
                    **request.body, extra_headers={"Idempotency-Key": request.key}
                )
                return read_completion(self.hidden(reply.text), request.bound), reply.headers
        except NotAnAnswerError as error:
            raise PassingError(f"{self.told} answered {error} in place of a completion", charged=True) from error
        except UnfitError as fault:
            return Answered(text=None, fault=fault.reason, detail=fault.detail), {}

    @contextmanager
    def streaming(self, body: Mapping[str, Any]) -> Iterator[Iterator[Any]]:
        """The chunks of a chat completion as they come, of a request that is sent once. They are as the server sent
        them: nothing has checked their fields.

        Raises:
            PassingError: it may be sent again, if nothing has come yet. EndpointError: nothing will come of it.
        """
        with self.once() as client:
            stream: Any = client.chat.completions.create(**body, stream=True)
            try:
                yield self._chunks(stream)
            finally:
                stream.close()

    def _chunks(self, stream: Any) -> Iterator[Any]:
        """A stream; what the client lets through when one breaks off (HTTP faults, JSON cut short) as our faults."""
        import openai

        try:
            if "event-stream" not in stream.response.headers.get("content-type", ""):
                found = describe_body(self.hidden(next(stream.response.iter_text(), "")))
                raise EndpointError(f"the server answered {found} in place of a stream", where=self.told, hint=ADDRESS)
            yield from stream
        except openai.APIError as error:
            if type(error) is openai.APIError:  # an event that tells of an error, after the status said all is well
                what = f"{self.told} broke off: {self.quoted(first_line(error))}"
                raise (PassingError(what) if _may_pass(error.code) else EndpointError(what)) from error
            raise
        except LlavamedError:
            raise
        except Exception as error:
            raise PassingError(f"{self.told} broke its answer off: {self.quoted(first_line(error))}") from error

    @contextmanager
    def free(self) -> Iterator[openai.OpenAI]:
        """The client for calls that cost nothing, with its own retries; its faults become EndpointError."""
        try:
            with self._faults():
                yield self.client.with_options(max_retries=SDK_RETRIES)
        except PassingError as fault:
            raise EndpointError(f"{fault.what}, again and again", where=self.told, hint=GO_ON) from fault
        except UnfitError as fault:
            raise EndpointError(fault.detail, where=self.told) from fault

    @contextmanager
    def once(self) -> Iterator[openai.OpenAI]:
        """The client for a call that may cost something: sent once. Raises PassingError or EndpointError."""
        try:
            with self._faults():
                yield self.client
        except UnfitError as fault:
            raise EndpointError(fault.detail, where=self.told) from fault

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """The client's faults as PassingError, UnfitError or EndpointError."""
        import openai

        try:
            yield
        except openai.APITimeoutError as error:
            charged = type(error.__cause__).__name__ not in NEVER_SENT
            raise PassingError(f"{self.told} did not answer in time", charged=charged) from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            charged = type(cause).__name__ not in NEVER_SENT
            raise PassingError(
                f"no connection to {self.told}: {self.hidden(first_line(cause))}", charged=charged
            ) from error
        except openai.APIStatusError as error:
            raise self._judged(error) from error
        except openai.OpenAIError as error:
            raise EndpointError(self.hidden(first_line(error)), where=self.told, hint=GO_ON) from error

    def _judged(self, error: openai.APIStatusError) -> PassingError | UnfitError | EndpointError:
        status, headers = error.status_code, error.response.headers
        body = error.body if isinstance(error.body, dict) else {}
        said, code = self._said(error, body), str(body.get("code") or body.get("type") or "")
        if record := record_fault(status, code, said):
            return UnfitError(*record)
        again = headers.get("x-should-retry")
        if code in _NO_MONEY_CODES or status == 402:
            return EndpointError(f"the account is out of money ({status}): {said}", where=self.told, hint=GO_ON)
        if (status in (408, 409, 429) or status >= 500) and again != "false":
            charged = status in UNCERTAIN
            what = f"{self.told} answered {status}: {said}"
            return PassingError(what, refused=status in REFUSALS, charged=charged, wait=wait_asked(headers))
        advice = {
            401: f"Is {KEY_VARIABLE} this server's key? {GO_ON}",
            403: f"May this key use the model? {GO_ON}",
            404: f"Check the model's name. {ADDRESS}",
            405: ADDRESS,
        }
        if 300 <= status < 400:
            advice[status] = "It sends the request on to another address, which is not followed: name that one instead."
        return EndpointError(
            f"the server answered {status} to the model {self.model}: {said}",
            where=self.told,
            hint=advice.get(status, GO_ON),
        )

    def _said(self, error: openai.APIStatusError, body: dict[str, Any]) -> str:
        message = body.get("message")
        if isinstance(message, str) and message.strip():
            return self.quoted(message)
        return self.hidden(describe_body(error.response.text))

    def quoted(self, text: str) -> str:
        """The beginning of what a server said, on one line, without the key and without what could steer a terminal."""
        signs = "".join(sign if sign.isprintable() else " " for sign in self.hidden(text[: 10 * QUOTED]))
        return " ".join(signs.split())[:QUOTED]

    def hidden(self, text: str) -> str:
        """`text` without the key, which some servers repeat."""
        return text if self._secret == NO_KEY else text.replace(self._secret, "[key]")


def _may_pass(code: object) -> bool:
    """Whether an error told within a stream, where no status can be, is one that passes."""
    return str(code) == "429" or (str(code).isdecimal() and 500 <= int(str(code)) < 600)


def record_fault(status: int, code: str, said: str) -> tuple[str, str] | None:
    """The reason and detail if an error is one record's alone: it is too long, or a filter refused it."""
    if status not in (400, 413, 422):
        return None
    if code in _REFUSED_CODES:
        return REFUSED, said
    if status == 413 or code in _LONG_CODES or any(words in said.lower() for words in _LONG_WORDS):
        return TOO_LONG, said
    return None


def told_host(url: str) -> str:
    """A server's name, with its port, without anything that may be secret. url: one that `require_key` takes."""
    parts = urlsplit(url)
    host = str(parts.hostname or url)
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port}" if parts.port else host


def resolve_url(base_url: str | None) -> str:
    """The server's address: as given, or the OPENAI_BASE_URL of the environment, or OpenAI's."""
    return (base_url or os.environ.get(URL_VARIABLE) or OPENAI_URL).rstrip("/")


def require_key(model: str, url: str) -> str:
    """The key for the server at `url`: that of OPENAI_API_KEY, or a stand-in where a server of one's own needs none.

    Raises:
        UsageError: there is no key for OpenAI, or `url` is no address, or it holds a password.
    """
    secret = os.environ.get(KEY_VARIABLE, "").strip()
    if not secret and url == OPENAI_URL:
        raise UsageError(
            f"{KEY_VARIABLE} is not set, and {model} is asked at OpenAI",
            hint=f"export {KEY_VARIABLE}=..., or name another server with --base-url.",
        )
    told = "" if "@" in url else f" {url}"
    no_address = UsageError(f"--base-url{told} is no address", hint="It looks like http://127.0.0.1:8000/v1.")
    try:
        parts = urlsplit(url)
        _ = parts.port  # read for its ValueError
    except ValueError:
        raise no_address from None
    if parts.username or parts.password:
        raise UsageError(
            "--base-url holds a name or a password, which run.json would keep", hint=f"Put it into {KEY_VARIABLE}."
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise no_address
    return secret or NO_KEY


@contextmanager
def open_endpoint(model: str, url: str, *, answer_seconds: float) -> Iterator[Endpoint]:
    """Connect to the server at `url`. Raises UsageError as `require_key` does."""
    import openai

    key = require_key(model, url)
    try:
        client = openai.OpenAI(
            api_key=key,
            base_url=url,
            max_retries=0,
            timeout=openai.Timeout(answer_seconds, connect=CONNECT_SECONDS),
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
    except (openai.OpenAIError, ValueError) as error:
        raise LlavamedError(first_line(error)) from error
    with client:
        yield Endpoint(client, url, model, key)
