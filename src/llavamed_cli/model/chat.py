"""From turns to token ids and a label mask: the one place, for training and for answering alike.

A conversation is rendered by the model's chat template and tokenised whole, as Hugging Face's processor does, so every
tool that reads the folder sees the same ids; with a published checkpoint's own tokenizer (model/published/tokenizer.py)
they are the reference's too. The mask is read off the same rendering: an answer runs from where the prompt for it ends
to its end marker. A prompt to answer is thus a prefix of the text trained on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import DataError, ModelError
from llavamed_cli.model.rendering import Renderer
from llavamed_cli.records import IMAGE_MARKER, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
QUESTION, ANSWER, SECOND_QUESTION = "31415926", "27182818", "14142135"
"""Texts that stand for a question and an answer where a template is tried out: no template writes them itself."""
CONTROL_SHAPE = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?s>|<im_(?:start|end)>|<(?:start|end)_of_turn>|<bos>|<eos>"
)
"""How the tokens are written that templates count on; as mere letters they would teach and ask nonsense."""


@dataclass(frozen=True)
class Encoded:
    """A conversation as the model reads it, each `<image>` expanded to its picture's tokens.

    input_ids: length T. supervised: length T, True where the token is learned (answers and their end markers).
    """

    input_ids: tuple[int, ...]
    supervised: tuple[bool, ...]

    @property
    def labels(self) -> tuple[int, ...]:
        """input_ids where supervised, -100 elsewhere."""
        return tuple(
            token if learned else IGNORED for token, learned in zip(self.input_ids, self.supervised, strict=True)
        )


@dataclass(frozen=True)
class AnswerShape:
    """What a template leaves the model to write around an answer.

    role: what comes before it ("Assistant:"), empty where the prompt ends with it. other_role: what a question begins
    with in the same place. stop: the text that ends an answer ("###"), None where a control token does.
    """

    role: str
    other_role: str
    stop: str | None


def picture_first(turn: Turn) -> Turn:
    """The turn with its single `<image>` moved to the front, on a line of its own, as answering will put it.

    LLaVA trains this way (`preprocess_multimodal`); LLaVA-Med's data place the marker at random. A turn with several
    pictures keeps its own order. A template that wants the picture elsewhere moves it.
    """
    if turn.text.count(IMAGE_MARKER) != 1:
        return turn
    words = turn.text.replace(IMAGE_MARKER, "").strip()
    return Turn(speaker=turn.speaker, text=f"{IMAGE_MARKER}\n{words}")


@dataclass(frozen=True)
class ChatFormat:
    """How one model writes conversations.

    Raises ModelError where the template cannot be rendered or is missing, or the tokenizer lacks an `<image>` token,
    character offsets, or a token that the template writes.
    """

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    template: str = field(repr=False)

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "is_fast", False):
            raise ModelError(
                "the tokenizer gives no character offsets, which label masks need",
                hint="Save a fast tokenizer (tokenizer.json) into the model folder.",
            )
        if not self._knows(IMAGE_MARKER):
            raise ModelError(f"the tokenizer has no {IMAGE_MARKER} token")
        tried = self._renderer.try_out(_talk(f"{IMAGE_MARKER}\n{QUESTION}"), _talk(QUESTION, ANSWER))
        lacking = [token for token in dict.fromkeys(CONTROL_SHAPE.findall(tried)) if not self._knows(token)]
        if lacking:
            raise ModelError(
                f"the chat template writes {', '.join(lacking)}, which the tokenizer does not have",
                hint="Choose a template that suits this tokenizer with --template.",
            )

    def _knows(self, token: str) -> bool:
        found = self.tokenizer.convert_tokens_to_ids(token)
        return isinstance(found, int) and (found != self.tokenizer.unk_token_id or token == self.tokenizer.unk_token)

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self.tokenizer, self.template)

    @cached_property
    def image_token_id(self) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(IMAGE_MARKER))

    @cached_property
    def control_tokens(self) -> frozenset[str]:
        """Tokens with a meaning of their own (end of turn and the like); text must not hold them."""
        added = self.tokenizer.added_tokens_decoder.values()
        return frozenset({token.content for token in added if token.special} - {IMAGE_MARKER})

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Ids that may end an answer. `<unk>` is none: it stands for whatever the vocabulary lacks."""
        return frozenset(self.tokenizer.convert_tokens_to_ids(sorted(self.control_tokens - {self.tokenizer.unk_token})))

    @cached_property
    def end_token_id(self) -> int | None:
        """The id that the template puts after an answer, where generation stops. None: a text ends it, see `shape`."""
        if self.shape.stop is not None:
            return None
        encoded = self.encode(_talk(QUESTION, ANSWER), ())
        return [token for token, learned in zip(encoded.input_ids, encoded.supervised, strict=True) if learned][-1]

    @cached_property
    def stop_token_ids(self) -> tuple[int, ...]:
        """What to write into a generation config as `eos_token_id`, so that other tools stop where this one does.

        A text such as `###` is no token. `stop_strings` could name it, but then transformers refuses every
        `generate(...)` without `tokenizer=`, and vLLM does not read it. So the tokens that hold the text stand in for
        it, and for `###` those that hold two or more of its signs: LLaMA writes it as `##`, `#` at a line's start.
        """
        stop = self.shape.stop
        ends = {self.end_token_id, self.tokenizer.eos_token_id} - {None}
        if stop is not None:
            for piece, index in self.tokenizer.get_vocab().items():
                written = piece.strip("▁Ġ ")
                if stop in written or (len(written) > 1 and set(written) == set(stop) and len(set(stop)) == 1):
                    ends.add(index)
        return tuple(sorted(ends))

    @cached_property
    def shape(self) -> AnswerShape:
        """What the model writes itself around an answer, found by rendering a conversation of known words."""
        prompt = self.render(_talk(QUESTION), open_answer=True)
        whole = self.render(_talk(QUESTION, ANSWER), open_answer=False)
        if not whole.startswith(prompt):  # such a template may ask; training with it is refused in `encode`
            return AnswerShape(role="", other_role="", stop=None)
        before, _, after = whole[len(prompt) :].partition(ANSWER)
        stop = after.strip() or None
        if any(token in after for token in self.control_tokens):
            stop = None
        role = self._words(before)
        return AnswerShape(role=role, other_role=self._other_role(stop) if role else "", stop=stop)

    def _other_role(self, stop: str | None) -> str:
        """What stands between an answer's end and the next question's words."""
        try:
            again = self.render(_talk(QUESTION, ANSWER, SECOND_QUESTION), open_answer=True)
        except DataError:  # a template of one question
            return ""
        between = again[again.index(ANSWER) + len(ANSWER) : again.index(SECOND_QUESTION)]
        return self._words(between.rpartition(stop)[2] if stop else between)

    def _words(self, text: str) -> str:
        for token in self.control_tokens:
            text = text.replace(token, "")
        return text.strip()

    def render(self, turns: Sequence[Turn], *, open_answer: bool, system: str | None = None) -> str:
        """The conversation as text; with `open_answer` it ends where the model is to answer.

        Raises DataError where the template itself refuses the conversation.
        """
        return self._renderer.render(turns, open_answer=open_answer, system=system)

    def encode_prompt(
        self, turns: Sequence[Turn], image_lengths: Sequence[int], *, system: str | None = None
    ) -> tuple[int, ...]:
        """Ids of a conversation whose last turn is the question to answer.

        Args:
            image_lengths: tokens of each picture, in the order of the markers.
            system: a message that goes before it, in place of the template's own.

        Raises:
            DataError: the text holds a control token; or the template has no place for a system message.
        """
        self._check_text(turns)
        if system is not None:
            self._check_text([Turn(speaker="human", text=system)])
        text = self.render(turns, open_answer=True, system=system)
        if system is not None and system.strip() not in text:
            raise DataError("this model's chat template has no place for a system message")
        ids, _ = self._tokenise(text, image_lengths)
        return tuple(ids)

    def encode(self, turns: Sequence[Turn], image_lengths: Sequence[int]) -> Encoded:
        """Ids and label mask of a whole conversation.

        Raises:
            DataError: the text holds a control token, or an answer the text that ends answers; the markers and
                pictures differ in number; or the template does not let the answers be found (the fault says which).
        """
        self._check_text(turns)
        text = self.render(turns, open_answer=False)
        ids, spans = self._tokenise(text, image_lengths)
        supervised = [False] * len(ids)
        for number, turn in enumerate(turns):
            if turn.speaker == "gpt":
                start = self._answer_start(self.render(turns[:number], open_answer=True), text)
                first, last = self._answer_tokens(ids, spans, text, start, turn=number + 1)
                supervised[first:last] = [True] * (last - first)
        return Encoded(input_ids=tuple(ids), supervised=tuple(supervised))

    def _answer_start(self, prompt: str, text: str) -> int:
        if not text.startswith(prompt):
            raise DataError(
                "the chat template does not extend its own prompt, so answers cannot be told from questions"
            )
        return len(prompt)

    def _answer_tokens(
        self, ids: list[int], spans: list[tuple[int, int]], text: str, start: int, *, turn: int
    ) -> tuple[int, int]:
        """The tokens from character `start` to the end marker, as [first, last)."""
        if any(left < start < right for left, right in spans):
            raise DataError(f"turn {turn}: the answer's first token also covers the prompt")
        first = next((index for index, (left, _) in enumerate(spans) if left >= start), len(ids))
        stop = self.shape.stop
        if stop is not None:
            end = text.index(stop, start) + len(stop)
            return first, next((i for i in range(first, len(ids)) if spans[i][0] >= end), len(ids))
        begun = start + len(text[start:]) - len(text[start:].lstrip())
        role = self.shape.role
        behind_role = text.find(role, begun) + len(role) if role else start
        for index in range(first, len(ids)):
            if ids[index] in self.end_ids and spans[index][0] >= behind_role:
                return first, index + 1
        raise DataError(f"turn {turn}: the chat template puts no end token after the answer")

    def _tokenise(self, text: str, image_lengths: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and character spans in `text`; every token of a picture has the span of its marker."""
        encoded: Any = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        found = encoded["input_ids"].count(self.image_token_id)
        if found != len(image_lengths):
            raise DataError(f"{found} {IMAGE_MARKER} marker(s) for {len(image_lengths)} picture(s)")
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        if self._adds_bos and not text.startswith(self.tokenizer.bos_token):
            ids.append(int(self.tokenizer.bos_token_id))
            spans.append((0, 0))
        lengths = iter(image_lengths)
        for token, span in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            times = next(lengths) if token == self.image_token_id else 1
            ids += [token] * times
            spans += [tuple(span)] * times
        return ids, spans

    @cached_property
    def _adds_bos(self) -> bool:
        first: Any = self.tokenizer("a")["input_ids"]
        return bool(first) and self.tokenizer.bos_token is not None and first[0] == self.tokenizer.bos_token_id

    def _check_text(self, turns: Sequence[Turn]) -> None:
        stop = self.shape.stop
        for number, turn in enumerate(turns, start=1):
            found = next((token for token in self.control_tokens if token in turn.text), None)
            if found is not None:
                raise DataError(f"turn {number}: the text holds the model's control token {found!r}")
            if stop is not None and turn.speaker == "gpt" and stop in turn.text:
                raise DataError(f"turn {number}: the answer holds {stop!r}, which ends answers in this chat format")


def _talk(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(speaker="gpt" if index % 2 else "human", text=text) for index, text in enumerate(texts))
