"""A model behind an OpenAI-compatible server, asked as one on this machine is: streaming, with its history.

What leaves is the words and the pictures' pixels: no file name, no header. What fails before the first word is tried
again a few times; after it, what was said stays, and the fault is told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any

from llavamed_cli.asking.session import Alternative, Finish, Reply
from llavamed_cli.asking.talk import Talk
from llavamed_cli.endpoint.pictures import picture_part, text_part
from llavamed_cli.endpoint.prices import known_model
from llavamed_cli.endpoint.requests import OPENAI_URL
from llavamed_cli.endpoint.server import GO_ON, Endpoint, PassingError, open_endpoint
from llavamed_cli.errors import EndpointError
from llavamed_cli.model.decoding import Decoding
from llavamed_cli.model.yes_no import WORDS, YesNo
from llavamed_cli.records import IMAGE_MARKER, Turn

TRIES = 4
LONGEST_WAIT = 30.0
SILENCE = 60.0
"""Seconds that a server may say nothing."""
TOP_TOKENS = 5
"""As many as every server gives at the first place, whose probabilities tell a yes from a no."""


@dataclass
class _Coming:
    """An answer while it comes. log_probabilities: of its tokens, as far as the server gives them."""

    text: str = ""
    finish: Finish = "interrupted"
    log_probabilities: list[float] = field(default_factory=list)
    first: Sequence[Any] = ()


class RemoteSession:
    """A `Session` with the model that `endpoint` names."""

    def __init__(self, endpoint: Endpoint, *, decoding: Decoding, system: str | None = None) -> None:
        self.endpoint = endpoint
        self.decoding = decoding
        self.system = system
        self.talk = Talk()
        self.last: Reply | None = None
        self._gives_probabilities = True

    def ask(self, question: str) -> Iterator[str]:
        """See `Session`."""
        began = perf_counter()
        self.last = None
        asking = self.talk.asking(question)
        coming, to_first = _Coming(), None
        try:
            for piece in self._pieces(messages(asking, self.system), coming):
                to_first = to_first or perf_counter() - began
                coming.text += piece
                yield piece
        finally:
            if coming.text:
                seconds = perf_counter() - began
                self.last = _reply(coming, seconds if to_first is None else to_first, seconds)
                self.talk = asking.answered(coming.text.strip())

    def alternatives(self, count: int) -> Sequence[Alternative]:
        """See `Session`: a server is not asked to carry on what it did not begin."""
        return []

    def _pieces(self, asked: list[dict[str, Any]], coming: _Coming) -> Iterator[str]:
        tries = 1
        while True:
            try:
                with self.endpoint.streaming(self._body(asked)) as chunks:
                    for chunk in chunks:
                        yield from _read(chunk, coming)
                if not coming.text:
                    raise PassingError(f"{self.endpoint.told} answered nothing")
                if coming.finish == "interrupted":
                    raise PassingError(f"{self.endpoint.told} broke its answer off")
                return
            except PassingError as fault:
                wait = fault.wait if fault.wait is not None else 2.0 ** (tries - 1)
                if coming.text or tries == TRIES or wait > LONGEST_WAIT:
                    raise EndpointError(fault.what) from fault
                tries += 1
                sleep(wait)
            except EndpointError as error:
                if coming.text or not self._gives_probabilities or "logprob" not in error.what.lower():
                    raise EndpointError(error.what, where=error.where, hint=_advice(error)) from error
                self._gives_probabilities = False

    def _body(self, asked: list[dict[str, Any]]) -> dict[str, Any]:
        known = known_model(self.endpoint.model)
        reasoning = known is not None and known.reasoning
        newer = reasoning or self.endpoint.url == OPENAI_URL
        body: dict[str, Any] = {"model": self.endpoint.model, "messages": asked}
        body["max_completion_tokens" if newer else "max_tokens"] = self.decoding.max_new_tokens
        if reasoning:
            return body
        body |= {"temperature": self.decoding.temperature, "seed": self.decoding.seed}
        if self.decoding.top_p < 1:
            body["top_p"] = self.decoding.top_p
        if self._gives_probabilities:
            body |= {"logprobs": True, "top_logprobs": TOP_TOKENS}
        return body


@contextmanager
def open_remote(model: str, url: str, *, decoding: Decoding, system: str | None) -> Iterator[RemoteSession]:
    """Connect to a server. Raises UsageError: there is no key for it, or `url` is no address."""
    with open_endpoint(model, url, answer_seconds=SILENCE) as endpoint:
        yield RemoteSession(endpoint, decoding=decoding, system=system)


def messages(talk: Talk, system: str | None) -> list[dict[str, Any]]:
    """A conversation in the server's form, each picture where its marker stands."""
    pictures = iter(talk.pictures)
    told: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    for turn in talk.turns:
        role = "assistant" if turn.speaker == "gpt" else "user"
        told.append({"role": role, "content": _content(turn, pictures)})
    return told


def _content(turn: Turn, pictures: Iterator[Any]) -> str | list[dict[str, Any]]:
    first, *others = turn.text.split(IMAGE_MARKER)
    if not others:
        return turn.text
    parts = [text_part(first.strip())] if first.strip() else []
    for words in others:
        parts.append(picture_part(next(pictures).image))
        if words.strip():
            parts.append(text_part(words.strip()))
    return parts


def _read(chunk: Any, coming: _Coming) -> Iterator[str]:
    """A chunk's words; its probabilities and how the answer ended go into `coming`."""
    for choice in (getattr(chunk, "choices", None) or [])[:1]:
        for token in getattr(choice.logprobs, "content", None) or []:
            if not coming.log_probabilities:
                coming.first = token.top_logprobs or ()
            coming.log_probabilities.append(token.logprob)
        if choice.finish_reason is not None:
            coming.finish = "length" if choice.finish_reason == "length" else "end"
        if choice.delta is not None and choice.delta.content:
            yield choice.delta.content


def _reply(coming: _Coming, to_first: float, seconds: float) -> Reply:
    known = coming.log_probabilities
    return Reply(
        text=coming.text.strip(),
        finish=coming.finish,
        to_first=to_first,
        seconds=seconds,
        tokens=len(known) or None,
        confidence=math.exp(math.fsum(known) / len(known)) if known else None,
        yes_no=_yes_no(coming.first),
    )


def _yes_no(tokens: Sequence[Any]) -> YesNo | None:
    """The first token's shares, of the likeliest tokens that the server names; None where neither is among them."""
    mass = {
        side: math.fsum(math.exp(token.logprob) for token in tokens if token.token.strip() in words)
        for side, words in WORDS.items()
    }
    both = mass["yes"] + mass["no"]
    return YesNo(mass["yes"] / both, mass["no"] / both, both) if both > 0 else None


def _advice(error: EndpointError) -> str | None:
    """A fault's advice without what it says of runs that can be repeated: nothing was journaled here."""
    left = (error.hint or "").replace(GO_ON, "").strip()
    return left or None
