"""A chat template as a function from turns to text, and what is done so that a stranger's template does no harm.

transformers renders in Jinja's immutable sandbox: a template reaches no attribute that begins with an underscore, no
file and no import, and `range` ends at 100,000. Whatever it raises becomes one sentence. A template is first tried in a
thread of its own: one that does not end within ten seconds, or writes more than a million characters, is refused.
Not bounded: a template that waits for particular words before it loops, and one operation that is itself too large
(`9 ** 9 ** 9`, `'a' * 10 ** 11`), which Python carries out without ever looking up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import DataError, ModelError, first_line
from llavamed_cli.records import IMAGE_MARKER, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = {"human": "user", "gpt": "assistant"}
SECONDS_TO_TRY = 10.0
LONGEST_TRIAL = 1_000_000


@dataclass(frozen=True)
class Renderer:
    """A tokenizer's chat template, given content as text or, where it takes nothing else, as typed parts."""

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    template: str = field(repr=False)

    def render(self, turns: Sequence[Turn], *, open_answer: bool, system: str | None = None) -> str:
        """Raises DataError where the template refuses the conversation."""
        return self._render(turns, open_answer, typed=self._wants_parts, system=system)

    def try_out(self, asking: Sequence[Turn], talking: Sequence[Turn]) -> str:
        """Render a question alone and one with its answer, so that a template that cannot be used says so at once.

        Returns both texts, one after the other.

        Raises:
            ModelError: the question's words do not come through, or the template fails, or takes too long.
        """
        if not self.template:
            raise ModelError("the tokenizer has no chat template", hint="Give it one with --template.")
        try:
            written = _within(SECONDS_TO_TRY, lambda: self._try(asking, talking))
        except DataError as error:
            raise ModelError(error.what, hint="Choose another template with --template.") from error
        if len(written) > LONGEST_TRIAL:
            raise ModelError(f"the chat template writes {len(written):,} characters for two short messages")
        return written

    def _try(self, asking: Sequence[Turn], talking: Sequence[Turn]) -> str:
        words = asking[-1].text.replace(IMAGE_MARKER, "").strip()
        question = self.render(asking, open_answer=True)
        if words not in question:
            raise DataError("the chat template leaves the question's words out")
        return question + self.render(talking, open_answer=False)

    @cached_property
    def _wants_parts(self) -> bool:
        """Whether a question given as text is lost: some templates (llava-hf's) look for typed parts alone."""
        turns = [Turn(speaker="human", text="31415926")]
        try:
            return turns[0].text not in self._render(turns, True, typed=False)
        except DataError:
            try:
                return turns[0].text in self._render(turns, True, typed=True)
            except DataError:
                return False

    def _render(self, turns: Sequence[Turn], open_answer: bool, *, typed: bool, system: str | None = None) -> str:
        said = [(ROLES[turn.speaker], turn.text) for turn in turns]
        if system is not None:
            said.insert(0, ("system", system))
        messages = [{"role": role, "content": _parts(text) if typed else text} for role, text in said]
        words: Any = self.tokenizer
        try:
            return str(
                words.apply_chat_template(
                    messages, chat_template=self.template, tokenize=False, add_generation_prompt=open_answer
                )
            )
        except Exception as error:  # a template is a program: it may raise whatever Python can
            raise DataError(f"the chat template refuses this conversation: {first_line(error)}") from error


def _parts(text: str) -> list[dict[str, str]]:
    """A text as typed parts: `<image>`, with the line break that sets it off, becomes a part of its own."""
    before, *after = text.split(IMAGE_MARKER)
    parts = [{"type": "text", "text": before.removesuffix("\n")}]
    for chunk in after:
        parts += [{"type": "image"}, {"type": "text", "text": chunk.strip("\n")}]
    return [part for part in parts if part.get("text") != ""]


def _within(seconds: float, work: Callable[[], str]) -> str:
    """The result of `work`, or ModelError after `seconds`; the thread then left behind ends with the process."""
    from queue import Empty, SimpleQueue
    from threading import Thread

    results: SimpleQueue[str | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            results.put(work())
        except BaseException as error:  # handed to the caller's thread below
            results.put(error)

    Thread(target=run, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except Empty:
        raise ModelError(f"the chat template did not end within {seconds:.0f} seconds") from None
    if isinstance(result, BaseException):
        raise result
    return result
