"""A question to a server as it is sent, the key it is known by, and what can be read from the answer.

The key is a hash of everything that shapes the answer; how it is asked (one call, a batch) is not among that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from llavamed_cli.endpoint.journal import Answered
from llavamed_cli.endpoint.pictures import LIKELY_PICTURE_TOKENS, MOST_PICTURE_TOKENS, Part, is_picture
from llavamed_cli.endpoint.prices import Tokens

OPENAI_URL = "https://api.openai.com/v1"
TEMPERATURE = 0.0
THOUGHTS = 4096
"""Tokens that a reasoning model may use besides, before it answers."""
PER_MESSAGE, PER_REQUEST = 16, 64
"""Tokens that a chat template may add to a message (roles, ends) and to a conversation (a system prompt of its own)."""
BYTES_PER_TOKEN = 4
"""For what is likely rather than certain: English prose."""
QUOTED = 200
MOST_TOKENS = 2**31
"""A server that counts more cannot count."""

REFUSED, EMPTY, CUT, TORN = (
    "the model refused",
    "the answer is empty",
    "the answer was cut at its most tokens",
    "the answer was not whole JSON",
)

Item = TypeVar("Item")
Message = Mapping[str, str | list[Part]]
"""{"role", "content"}: the content a text, or texts and pictures in order."""


class NotAnAnswerError(Exception):
    """A body that is no chat completion: an HTML page, nothing, or an error sent as if it were none."""


@dataclass(frozen=True)
class Request:
    """bound: the most tokens it can take; likely: about how many it will."""

    key: str
    body: dict[str, Any]
    bound: Tokens
    likely: Tokens


@dataclass(frozen=True, kw_only=True)
class RequestForm(Generic[Item]):
    """What all requests of a run have alike. messages: the prompt for an item.

    most_written: tokens that an answer may take; likely_written: that it takes about.
    picture_tokens: the most that the model makes of one picture.
    """

    model: str
    url: str
    messages: Callable[[Item], Sequence[Message]]
    most_written: int
    likely_written: int
    reasoning: bool = False
    picture_tokens: int = MOST_PICTURE_TOKENS

    def request(self, item: Item) -> Request:
        """The request about `item`.

        The bound of what is read: tokenizers work on bytes or on characters, so no text has more tokens than bytes.
        """
        messages = [{name: utf8_content(value) for name, value in message.items()} for message in self.messages(item)]
        body: dict[str, Any] = {"model": self.model, "messages": messages}
        room = self.most_written + (THOUGHTS if self.reasoning else 0)
        body["max_completion_tokens" if self.reasoning or self.url == OPENAI_URL else "max_tokens"] = room
        if not self.reasoning:
            body["temperature"] = TEMPERATURE
        texts, pictures = _contents(messages)
        size = sum(len(text.encode()) for text in texts)
        asked = json.dumps({"url": self.url, "body": body}, sort_keys=True)
        return Request(
            key=hashlib.sha256(asked.encode()).hexdigest(),
            body=body,
            bound=Tokens(
                size + PER_MESSAGE * len(messages) + PER_REQUEST + pictures * self.picture_tokens,
                room,
            ),
            likely=Tokens(
                size // BYTES_PER_TOKEN + len(messages) + pictures * LIKELY_PICTURE_TOKENS, self.likely_written
            ),
        )


def utf8(text: str) -> str:
    """The text with a question mark for what UTF-8 cannot hold (a lone surrogate)."""
    return text.encode("utf-8", "replace").decode("utf-8")


def utf8_content(content: str | list[Part]) -> str | list[Part]:
    """A message's content, its texts by `utf8`."""
    if isinstance(content, str):
        return utf8(content)
    return [part if is_picture(part) else {**part, "text": utf8(part["text"])} for part in content]


def _contents(messages: Sequence[Message]) -> tuple[list[str], int]:
    """All texts, and how many pictures there are."""
    texts, pictures = [], 0
    for content in (content for message in messages for content in message.values()):
        if isinstance(content, str):
            texts.append(content)
            continue
        texts += [part["text"] for part in content if not is_picture(part)]
        pictures += sum(map(is_picture, content))
    return texts, pictures


def read_completion(text: str, bound: Tokens) -> Answered:
    """What a chat completion says, a fault where it cannot be used; tokens are `bound` where the server gives none.

    Raises:
        NotAnAnswerError: it is no JSON at all, or an error.
    """
    try:
        completion = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not text.lstrip().startswith("{"):
            raise NotAnAnswerError(describe_body(text)) from error
        torn = text[:QUOTED]
        return Answered(text=None, fault=TORN, detail=torn, read=bound.read, written=bound.written, estimated=True)
    return read_completion_object(completion, bound)


def read_completion_object(completion: Any, bound: Tokens) -> Answered:
    """As `read_completion`, of parsed JSON."""
    if isinstance(completion, dict) and completion.get("error") and not completion.get("choices"):
        raise NotAnAnswerError(f"the error {json.dumps(completion['error'])[:QUOTED]}")
    used = _usage(completion)
    tokens = used or bound
    choices = completion.get("choices") if isinstance(completion, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    content = content if isinstance(content, str) and content.strip() else None
    fault, detail = None, None
    if isinstance(refusal, str) and refusal.strip():
        fault, detail = REFUSED, refusal[:QUOTED]
    elif finish == "content_filter":
        fault, detail = REFUSED, "content filter"
    elif content is None:
        fault = EMPTY
    elif finish == "length" or (used is not None and 0 < bound.written <= used.written):
        fault = CUT  # some servers say "stop" of an answer that took all the tokens it might
    return Answered(
        text=content if fault in (None, CUT) else None,
        fault=fault,
        detail=detail,
        read=tokens.read,
        written=tokens.written,
        estimated=used is None,
    )


def describe_body(text: str) -> str:
    """A body that is no JSON, in a few words."""
    start = " ".join(text[:QUOTED].split())
    if not start:
        return "an empty body"
    return "an HTML page" if start.startswith("<") else f"{start!r}"


def _usage(completion: Any) -> Tokens | None:
    usage = completion.get("usage") if isinstance(completion, dict) else None
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(read, int) and isinstance(written, int) and 0 <= read < MOST_TOKENS and 0 <= written < MOST_TOKENS:
        return Tokens(read, written)
    return None
