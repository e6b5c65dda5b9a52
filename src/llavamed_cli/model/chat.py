"""From turns to token ids and a label mask: the one place, for training and for answering alike.

A conversation is rendered by the model's chat template, split at each `<image>`, and tokenised chunk by chunk, as the
reference does (LLaVA-Med v1.5 `tokenizer_image_token`). The mask is read off the same rendering: an answer runs from
where the prompt for it ends to its end token. A prompt to answer is thus a prefix of the text trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import DataError, ModelError, UsageError, first_line
from llavamed_cli.records import IMAGE_MARKER, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = Path(__file__).parent / "templates"
BUILTIN_TEMPLATES = ("chatml", "mistral_instruct", "vicuna_v1")
ROLES = {"human": "user", "gpt": "assistant"}
IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """A conversation as the model reads it, each `<image>` expanded to its picture's tokens.

    input_ids: length T. supervised: length T, True where the token is learned (answers and their end tokens).
    """

    input_ids: tuple[int, ...]
    supervised: tuple[bool, ...]

    @property
    def labels(self) -> tuple[int, ...]:
        """input_ids where supervised, -100 elsewhere."""
        return tuple(
            token if learned else IGNORED for token, learned in zip(self.input_ids, self.supervised, strict=True)
        )


def builtin_template(name: str) -> str:
    """The Jinja text of `chatml`, `mistral_instruct` or `vicuna_v1`, for checkpoints that carry no template.

    Sources: LLaVA-Med v1.5 llava/conversation.py (`mistral_instruct`), LLaVA (`vicuna_v1`), OpenAI's ChatML.
    Raises UsageError where there is no such template.
    """
    if name not in BUILTIN_TEMPLATES:
        raise UsageError(f"no chat template {name!r}, there are {', '.join(BUILTIN_TEMPLATES)}", where="--template")
    return _template_text(name)


def _template_text(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8").replace("\n", "")


def accept_typed_content(template: str) -> str:
    """Let a text-only template also take message content as a list of parts, as `AutoProcessor` users write it."""
    if IMAGE_MARKER in template or "['type']" in template or ".type" in template:
        return template
    return _template_text("typed_content") + template


def picture_first(turn: Turn) -> Turn:
    """The turn with its single `<image>` moved to the front, on a line of its own, as answering will put it.

    LLaVA trains this way (`preprocess_multimodal`); LLaVA-Med's data place the marker at random. A turn with several
    pictures keeps its own order.
    """
    if turn.text.count(IMAGE_MARKER) != 1:
        return turn
    words = turn.text.replace(IMAGE_MARKER, "").strip()
    return Turn(speaker=turn.speaker, text=f"{IMAGE_MARKER}\n{words}")


@dataclass(frozen=True)
class ChatFormat:
    """How one model writes conversations.

    Raises ModelError where the tokenizer lacks a chat template, an `<image>` token, or character offsets.
    """

    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    template: str = field(repr=False)

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "is_fast", False):
            raise ModelError(
                "the tokenizer gives no character offsets, which label masks need",
                hint="Save a fast tokenizer (tokenizer.json) into the model folder.",
            )
        if self.image_token_id == self.tokenizer.unk_token_id or self.image_token_id is None:
            raise ModelError(f"the tokenizer has no {IMAGE_MARKER} token")

    @cached_property
    def image_token_id(self) -> int | None:
        found = self.tokenizer.convert_tokens_to_ids(IMAGE_MARKER)
        return found if isinstance(found, int) else None

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
    def end_token_id(self) -> int:
        """The id that the template puts after an answer: where generation stops."""
        probe = (Turn(speaker="human", text="a"), Turn(speaker="gpt", text="b"))
        encoded = self.encode(probe, ())
        return [token for token, learned in zip(encoded.input_ids, encoded.supervised, strict=True) if learned][-1]

    def render(self, turns: Sequence[Turn], *, open_answer: bool) -> str:
        """The conversation as text; with `open_answer` it ends where the model is to answer.

        Raises DataError where the template itself refuses the conversation.
        """
        from jinja2 import TemplateError

        messages = [{"role": ROLES[turn.speaker], "content": turn.text} for turn in turns]
        try:
            text: Any = self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=open_answer
            )
        except TemplateError as error:
            raise DataError(f"the chat template refuses this conversation: {first_line(error)}") from error
        return str(text)

    def encode_prompt(self, turns: Sequence[Turn], image_lengths: Sequence[int]) -> tuple[int, ...]:
        """Ids of a conversation whose last turn is the question to answer.

        Args:
            image_lengths: tokens of each picture, in the order of the markers.
        """
        self._check_text(turns)
        ids, _ = self._tokenise(self.render(turns, open_answer=True), image_lengths)
        return tuple(ids)

    def encode(self, turns: Sequence[Turn], image_lengths: Sequence[int]) -> Encoded:
        """Ids and label mask of a whole conversation.

        Raises:
            DataError: the text holds a control token, the markers and pictures differ in number, or the template does
                not let the answers be found (then the fault says which).
        """
        self._check_text(turns)
        text = self.render(turns, open_answer=False)
        ids, spans = self._tokenise(text, image_lengths)
        supervised = [False] * len(ids)
        for number, turn in enumerate(turns):
            if turn.speaker == "gpt":
                start = self._answer_start(turns[:number], text)
                self._supervise(ids, spans, supervised, start, number + 1)
        return Encoded(input_ids=tuple(ids), supervised=tuple(supervised))

    def _answer_start(self, before: Sequence[Turn], text: str) -> int:
        prefix = self.render(before, open_answer=True)
        if not text.startswith(prefix):
            raise DataError(
                "the chat template does not extend its own prompt, so answers cannot be told from questions"
            )
        return len(prefix)

    def _supervise(
        self, ids: list[int], spans: list[tuple[int, int]], supervised: list[bool], start: int, turn: int
    ) -> None:
        """Mark the tokens from character `start` to the first end token."""
        for index, (left, right) in enumerate(spans):
            if left < start < right:
                raise DataError(f"turn {turn}: the answer's first token also covers the prompt")
            if left < start:
                continue
            supervised[index] = True
            if ids[index] in self.end_ids:
                return
        raise DataError(f"turn {turn}: the chat template puts no end token after the answer")

    def _tokenise(self, text: str, image_lengths: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and character spans in `text`; every token of a picture has the span of its marker."""
        chunks = text.split(IMAGE_MARKER)
        if len(chunks) - 1 != len(image_lengths):
            raise DataError(f"{len(chunks) - 1} {IMAGE_MARKER} marker(s) for {len(image_lengths)} picture(s)")
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        offset = 0
        bos = self.tokenizer.bos_token
        if self._begins_with_bos(text):
            ids.append(int(self.tokenizer.bos_token_id))
            spans.append((0, 0))
            if chunks[0].startswith(bos):
                chunks[0] = chunks[0][len(bos) :]
                offset = len(bos)
        for number, chunk in enumerate(chunks):
            if number:
                ids += [int(self.image_token_id or 0)] * image_lengths[number - 1]
                spans += [(offset, offset + len(IMAGE_MARKER))] * image_lengths[number - 1]
                offset += len(IMAGE_MARKER)
            encoded: Any = self.tokenizer(chunk, add_special_tokens=False, return_offsets_mapping=True)
            ids += encoded["input_ids"]
            spans += [(offset + left, offset + right) for left, right in encoded["offset_mapping"]]
            offset += len(chunk)
        return ids, spans

    def _begins_with_bos(self, text: str) -> bool:
        """Whether the first id is BOS: the template wrote it, or the tokenizer always adds it."""
        bos = self.tokenizer.bos_token
        if bos is None:
            return False
        return text.startswith(bos) or self._adds_bos

    @cached_property
    def _adds_bos(self) -> bool:
        first: Any = self.tokenizer("a")["input_ids"]
        return bool(first) and first[0] == self.tokenizer.bos_token_id

    def _check_text(self, turns: Sequence[Turn]) -> None:
        for number, turn in enumerate(turns, start=1):
            found = next((token for token in self.control_tokens if token in turn.text), None)
            if found is not None:
                raise DataError(f"turn {number}: the text holds the model's control token {found!r}")
