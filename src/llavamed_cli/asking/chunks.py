"""What the chunks of a streamed answer say. A server may send anything: what is not as it should be is not there.

The `openai` client checks no field of a chunk, so each is looked at here before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llavamed_cli.asking.session import Finish, Reply
from llavamed_cli.endpoint.requests import MOST_TOKENS, utf8
from llavamed_cli.model.yes_no import WORDS, YesNo

SPACES = " \t\n▁Ġ"
"""What a token that begins a word may begin with, also where a server shows its vocabulary's own spaces."""
THOUGHTS = ("reasoning_content", "reasoning")
"""Where servers put what a model thinks before it answers: no part of the answer, nor are its probabilities."""


@dataclass(frozen=True)
class Token:
    """A token, its natural log-probability, and the likeliest ones in its place."""

    text: str
    log_probability: float
    instead: tuple[tuple[str, float], ...]


@dataclass
class Coming:
    """An answer while it comes. tokens: those whose probabilities are told. ended: why, in the server's word.

    read, written: how many tokens the server counts in the question and in the answer.
    """

    text: str = ""
    ended: str | None = None
    refusal: str = ""
    tokens: list[Token] = field(default_factory=list)
    read: int | None = None
    written: int | None = None

    def pieces(self, chunk: Any) -> Iterator[str]:
        """A chunk's words; what else it tells is kept."""
        usage = getattr(chunk, "usage", None)
        self.read = _count(getattr(usage, "prompt_tokens", None), self.read)
        self.written = _count(getattr(usage, "completion_tokens", None), self.written)
        choices = getattr(chunk, "choices", None)
        if not isinstance(choices, list) or not choices:
            return
        choice = choices[0]
        delta = getattr(choice, "delta", None)
        if not any(getattr(delta, name, None) for name in THOUGHTS):
            told = getattr(getattr(choice, "logprobs", None), "content", None)
            self.tokens += _tokens(told)
        self.ended = _text(getattr(choice, "finish_reason", None)) or self.ended
        self.refusal += _text(getattr(delta, "refusal", None))
        if piece := _text(getattr(delta, "content", None)):
            self.text += piece
            yield piece

    @property
    def has_words(self) -> bool:
        """Whether anything can be read in it."""
        return bool(self.text.strip())

    @property
    def finish(self) -> Finish:
        """See `Reply`."""
        if self.ended is None:
            return "interrupted"
        return "length" if self.ended == "length" else "end"

    def reply(self, to_first: float, seconds: float) -> Reply:
        """What is known of it. Its confidence has the end marker's probability only where the server tells that."""
        mean = math.fsum(token.log_probability for token in self.tokens) / len(self.tokens) if self.tokens else None
        return Reply(
            text=self.text.strip(),
            finish=self.finish,
            to_first=to_first,
            seconds=seconds,
            tokens=len(self.tokens) or self.written,
            confidence=None if mean is None else math.exp(mean),
            yes_no=_yes_no(self.tokens),
            read=self.read,
        )


def _tokens(told: Any) -> Iterator[Token]:
    for token in told if isinstance(told, list) else ():
        if (one := _valued(token)) is not None:
            others = getattr(token, "top_logprobs", None)
            valued = map(_valued, others if isinstance(others, list) else ())
            yield Token(*one, instead=tuple(other for other in valued if other is not None))


def _valued(token: Any) -> tuple[str, float] | None:
    text, value = getattr(token, "token", None), getattr(token, "logprob", None)
    if not isinstance(text, str) or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return (text, min(0.0, float(value))) if value <= 1e-3 else None  # not a number, or no probability, is neither


def _yes_no(tokens: Sequence[Token]) -> YesNo | None:
    """The first word's shares, of the likeliest tokens that the server names; None where neither is among them."""
    first = next((token for token in tokens if token.text.strip(SPACES)), None)
    if first is None:
        return None
    yes, no = (
        math.fsum(math.exp(value) for text, value in first.instead if text.strip(SPACES) in WORDS[side])
        for side in ("yes", "no")
    )
    both = yes + no
    return YesNo(yes / both, no / both, min(1.0, both)) if both > 0 else None


def _text(value: Any) -> str:
    return utf8(value) if isinstance(value, str) else ""


def _count(value: Any, before: int | None) -> int | None:
    return value if isinstance(value, int) and 0 <= value < MOST_TOKENS else before
