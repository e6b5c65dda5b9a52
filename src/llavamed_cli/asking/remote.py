"""A model behind an OpenAI-compatible server, asked as one on this machine is: streaming, with its history.

What leaves is the words and the pictures' pixels: no file name, no header. What fails before the first word is tried
again a few times; after it, what was said stays, and the fault is told: an answer begun is never asked for, nor paid
for, again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import Any

from llavamed_cli.asking.chunks import Coming
from llavamed_cli.asking.session import Alternative, Reply
from llavamed_cli.asking.talk import Talk
from llavamed_cli.endpoint.pictures import picture_part, text_part
from llavamed_cli.endpoint.prices import known_model
from llavamed_cli.endpoint.requests import OPENAI_URL, THOUGHTS, utf8, utf8_content
from llavamed_cli.endpoint.server import GO_ON, TOO_LONG, Endpoint, PassingError, UnfitError, open_endpoint
from llavamed_cli.errors import EndpointError
from llavamed_cli.model.decoding import Decoding
from llavamed_cli.progress import Progress, Silent
from llavamed_cli.records import IMAGE_MARKER, Turn

TRIES = 4
FIRST_WAIT = 1.0
PATIENCE = 60.0
"""Seconds after a question within which a try may still follow another: no person waits longer for an apology."""
SILENCE = 180.0
"""Seconds that a server may say nothing: on a CPU, a picture is read for a minute or two before the first word."""
EXTRAS: dict[str, dict[str, Any]] = {
    "logprob": {"logprobs": True, "top_logprobs": 5},
    "stream_options": {"stream_options": {"include_usage": True}},
}
"""What is asked besides the answer, under the word by which a server that will not tell it names it. Five tokens in the
first place is what every server gives that gives any; their probabilities tell a yes from a no."""
UNPROCESSABLE = (400, 422)


class RemoteSession:
    """A `Session` with the model that `endpoint` names."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        decoding: Decoding,
        system: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.decoding = decoding
        self.system = system
        self.talk = Talk()
        self.last: Reply | None = None
        self._progress = progress or Silent()
        known = known_model(endpoint.model)
        self._thinks = known is not None and known.reasoning
        self._extras = {name: body for name, body in EXTRAS.items() if not (self._thinks and name == "logprob")}

    def ask(self, question: str) -> Iterator[str]:
        """See `Session`."""
        began = perf_counter()
        self.last = None
        asking = self.talk.asking(question)
        coming, to_first = Coming(), None
        try:
            for so_far, piece in self._pieces(messages(asking, self.system), began):
                coming = so_far
                to_first = to_first or perf_counter() - began
                yield piece
        finally:
            if coming.has_words:
                seconds = perf_counter() - began
                self.last = coming.reply(to_first or seconds, seconds)
                self.talk = asking.answered(self.last.text)

    def alternatives(self, count: int) -> Sequence[Alternative]:
        """See `Session`: a server is not asked to carry on what it did not begin."""
        return []

    def _pieces(self, asked: list[dict[str, Any]], began: float) -> Iterator[tuple[Coming, str]]:
        """The answer's pieces, each with all that has come of the answer."""
        tries = 1
        while True:
            coming = Coming()
            try:
                with self.endpoint.streaming(self._body(asked)) as chunks:
                    for chunk in chunks:
                        for piece in coming.pieces(chunk):
                            yield coming, piece
                self._require_answer(coming)
                return
            except PassingError as fault:
                wait = FIRST_WAIT * 2.0 ** (tries - 1) if fault.wait is None else fault.wait
                if coming.text or tries == TRIES or perf_counter() - began + wait > PATIENCE:
                    waits = f" (it asks to wait {fault.wait:,.0f} s)" if fault.wait and not coming.text else ""
                    raise EndpointError(fault.what + waits) from fault
                self._progress.note(f"{fault.what}; asking again in {wait:.0f} s")
                tries += 1
                sleep(wait)
            except EndpointError as error:
                if coming.text or not self._does_without(error):
                    raise EndpointError(error.what, where=error.where, hint=_advice(error)) from error

    def _require_answer(self, coming: Coming) -> None:
        """Tell an answer that ended from one that broke off, and one without a word from both."""
        told = self.endpoint.told
        if coming.ended is None:
            raise PassingError(f"{told} broke its answer off")
        if coming.has_words:
            return
        if coming.refusal or coming.ended == "content_filter":
            said = f": {self.endpoint.quoted(coming.refusal)}" if coming.refusal else ""
            raise EndpointError(f"the server refused to answer{said}", where=told)
        if coming.ended == "length":
            limit = self.decoding.max_new_tokens
            raise EndpointError(
                f"the model used up its {limit:,} tokens before it said a word",
                where=told,
                hint="It may think before it answers: give it more with --max-new-tokens.",
            )
        raise EndpointError("the server's answer has no words", where=told)

    def _body(self, asked: list[dict[str, Any]]) -> dict[str, Any]:
        newer = self._thinks or self.endpoint.url == OPENAI_URL
        room = self.decoding.max_new_tokens + (THOUGHTS if self._thinks else 0)
        body: dict[str, Any] = {"model": self.endpoint.model, "messages": asked}
        body["max_completion_tokens" if newer else "max_tokens"] = room
        if not self._thinks:
            body["temperature"] = self.decoding.temperature
            if self.decoding.temperature > 0:
                body |= {"top_p": self.decoding.top_p, "seed": self.decoding.seed}
        for extra in self._extras.values():
            body |= extra
        return body

    def _does_without(self, error: EndpointError) -> bool:
        """Whether the question can be asked again without what the server may have refused it for.

        What it names is left out from then on, and where it names nothing, all of it.
        """
        named = [name for name in self._extras if name in error.what.lower()]
        if not named and getattr(error.__cause__, "status_code", None) not in UNPROCESSABLE:
            return False
        left_out = named or list(self._extras)
        for name in left_out:
            del self._extras[name]
        return bool(left_out)


@contextmanager
def open_remote(
    model: str, url: str, *, decoding: Decoding, system: str | None, progress: Progress | None = None
) -> Iterator[RemoteSession]:
    """Connect to a server; nothing is sent yet. progress: is told when a question is asked again.

    Raises:
        UsageError: there is no key for it, or `url` is no address.
    """
    with open_endpoint(model, url, answer_seconds=SILENCE) as endpoint:
        yield RemoteSession(endpoint, decoding=decoding, system=system, progress=progress)


def messages(talk: Talk, system: str | None) -> list[dict[str, Any]]:
    """A conversation in the server's form, each picture where its marker stands."""
    pictures = iter(talk.pictures)
    told: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": utf8(system)}]
    for turn in talk.turns:
        if turn.speaker == "gpt":  # in whose words a marker is only a word
            told.append({"role": "assistant", "content": utf8(turn.text)})
        else:
            told.append({"role": "user", "content": utf8_content(_content(turn, pictures))})
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


def _advice(error: EndpointError) -> str | None:
    """A fault's advice without what it says of runs that can be repeated: nothing was journaled here."""
    cause = error.__cause__
    if isinstance(cause, UnfitError) and cause.reason == TOO_LONG:
        return "Nothing is cut silently: begin again (/reset), or ask for less with --max-new-tokens."
    left = (error.hint or "").replace(GO_ON, "").strip()
    return left or None
