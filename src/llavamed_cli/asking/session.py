"""Somebody who answers, question after question, and remembers what was said: a model here, or a server elsewhere.

Whoever holds a session prints the pieces as they come, and looks at `last` for what is known of the answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from llavamed_cli.asking.talk import Talk
from llavamed_cli.errors import UsageError
from llavamed_cli.model.decoding import Decoding
from llavamed_cli.model.generate import Generated, Prompt
from llavamed_cli.model.running_answer import RunningAnswer
from llavamed_cli.model.yes_no import YesNo

if TYPE_CHECKING:
    from llavamed_cli.model.load import LoadedModel
    from llavamed_cli.model.running_answer import KeptCache

Finish = Literal["end", "length", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """What else could have been said. probability: of its first token, or of yes or no."""

    answer: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer, and what is known of it. What a server does not tell is None.

    finish: the model ended it, it met the limit of new tokens, or it was stopped from outside.
    confidence: geometric mean of its tokens' probabilities, the end marker's included.
    yes_no: how the answer's first token divides between yes and no.
    read, reused: tokens of the prompt, and how many of them were in the cache already.
    to_first, seconds: from the question to the first token, and to the last.
    """

    text: str
    finish: Finish
    to_first: float
    seconds: float
    tokens: int | None = None
    token_ids: tuple[int, ...] = ()
    confidence: float | None = None
    yes_no: YesNo | None = None
    read: int | None = None
    reused: int | None = None

    @property
    def tokens_a_second(self) -> float | None:
        """Of the tokens after the first."""
        after = self.seconds - self.to_first
        return (self.tokens - 1) / after if self.tokens and self.tokens > 1 and after > 0 else None


class Session(Protocol):
    """talk: what was said and shown; set it to show a picture, to take a question back or to begin again."""

    talk: Talk
    decoding: Decoding
    last: Reply | None

    def ask(self, question: str) -> Iterator[str]:
        """The answer's text in pieces, as they are made.

        When it ends, and also when it is closed early (Ctrl-C), `last` holds what was said, and `talk` the question
        with it; an answer without a word leaves `talk` as it was.

        Raises:
            UsageError: an empty question, or a conversation longer than the model's context. DataError: the question
                holds one of the model's control tokens. EndpointError: a server does not serve.
        """

    def alternatives(self, count: int) -> Sequence[Alternative]:
        """The likeliest beginnings of an answer to the last question, each carried on; empty where they are unknown."""


class LocalSession:
    """A model on this machine. asked: what it was given last.

    The keys and values of all that was read are kept, so that the next question costs its own words alone.
    """

    def __init__(self, loaded: LoadedModel, *, decoding: Decoding, system: str | None = None) -> None:
        self.loaded = loaded
        self.decoding = decoding
        self.system = system
        self.talk = Talk()
        self.last: Reply | None = None
        self.asked: Prompt | None = None
        self._generated: Generated | None = None
        self._kept: KeptCache | None = None

    def prompt(self, talk: Talk) -> Prompt:
        """What the model is given of a conversation that ends with a question."""
        return Prompt(talk.turns, tuple(picture.image for picture in talk.pictures), self.system)

    def ask(self, question: str) -> Iterator[str]:
        """See `Session`."""
        began = time.perf_counter()
        self.last = None
        asking = self.talk.asking(question)
        running = self._run(self.prompt(asking), self.decoding)
        try:
            yield from running.pieces()
        finally:
            self._kept = running.kept
            self.asked, self._generated = running.prompt, running.generated
            if running.generated is not None:
                self.last = _reply(running, running.generated, time.perf_counter() - began)
                if self.last.text:
                    self.talk = asking.answered(self.last.text)

    def alternatives(self, count: int) -> list[Alternative]:
        """See `Session`. Each is carried on greedily."""
        if self.asked is None or self._generated is None:
            return []
        found = []
        for begun, probability in self._generated.beginnings[:count]:
            greedy = Decoding(max_new_tokens=max(1, self.decoding.max_new_tokens - len(begun)))
            running = self._run(self.asked, greedy, begun)
            for _ in running.pieces():
                pass
            self._kept = running.kept
            if running.generated is not None:
                found.append(Alternative(answer=running.generated.text, probability=probability))
        return found

    def _run(self, prompt: Prompt, decoding: Decoding, begun: Sequence[int] = ()) -> RunningAnswer:
        kept, self._kept = self._kept, None
        running = RunningAnswer(self.loaded, prompt, decoding, kept=kept, begun=begun)
        _require_room(self.loaded, len(running.prompt_ids), decoding)
        return running


def _reply(running: RunningAnswer, generated: Generated, seconds: float) -> Reply:
    return Reply(
        text=generated.text,
        finish=running.finish,
        to_first=seconds if running.to_first is None else running.to_first,
        seconds=seconds,
        tokens=len(generated.token_ids),
        token_ids=generated.token_ids,
        confidence=generated.confidence,
        yes_no=generated.yes_no,
        read=len(running.prompt_ids),
        reused=running.reused,
    )


def _require_room(loaded: LoadedModel, length: int, decoding: Decoding) -> None:
    """Refuse a prompt that, with the longest answer, goes beyond the positions that the model knows."""
    context = getattr(loaded.model.config.text_config, "max_position_embeddings", None)
    if context is not None and length + decoding.max_new_tokens > context:
        raise UsageError(
            f"{length:,} tokens of conversation and an answer of up to {decoding.max_new_tokens:,} are more than the "
            f"{context:,} that the model can follow",
            hint="Nothing is cut silently: begin again (/reset), or ask for less with --max-new-tokens.",
        )
