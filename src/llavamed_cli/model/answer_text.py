"""Which part of what a model generates is its answer.

Most formats end an answer by a token. LLaVA-Med v1.0's end it by the text `###`, which is no token, and its questions
end without a cue, so that the model writes `Assistant:` itself before it answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.chat import AnswerShape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, StoppingCriteria


def answer_of(text: str, shape: AnswerShape) -> str:
    """The answer in generated text: up to the stop text, without a role that the prompt left to be written."""
    if shape.stop is not None:
        text = text.partition(shape.stop)[0]
    text = text.strip()
    return text[len(_role_at_start(text, shape)) :].lstrip()


def answer_pieces(pieces: Iterable[str], shape: AnswerShape) -> Iterator[str]:
    """`answer_of` for text that comes in pieces: what may yet turn out a role or a stop text is held back."""
    shown = ""
    text = ""
    for piece in pieces:
        text += piece
        ended = shape.stop is not None and shape.stop in text
        if not ended and _may_begin_with_role(text.lstrip(), shape):
            continue
        visible = answer_of(text if ended else _without_half_stop(text, shape), shape)
        if len(visible) > len(shown):
            yield visible[len(shown) :]
            shown = visible
        if ended:
            return
    visible = answer_of(text, shape)
    if len(visible) > len(shown):
        yield visible[len(shown) :]


def length_of_answer(tokenizer: PreTrainedTokenizerBase, ids: list[int], stop: str) -> int:
    """How many of `ids` it takes until their text holds `stop`; all, where it never does."""
    for end in range(1, len(ids) + 1):
        if stop in _tail(tokenizer, ids[:end], stop):
            return end
    return len(ids)


def stop_at(tokenizer: PreTrainedTokenizerBase, stop: str, start: int) -> StoppingCriteria:
    """Each row of a batch ends by itself once its text from token `start` on holds `stop`; a prompt's own never counts.

    transformers' `stop_strings` look back into the prompt, which here ends with the very same text.
    """
    import torch
    from transformers import StoppingCriteria

    class Stop(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            done = [stop in _tail(tokenizer, row, stop) for row in input_ids[:, start:].tolist()]
            return torch.tensor(done, dtype=torch.bool, device=input_ids.device)

    return Stop()


def _tail(tokenizer: PreTrainedTokenizerBase, ids: list[int], stop: str) -> str:
    """The text of as many tokens as can hold `stop`, each holding a character of it at least."""
    words: Any = tokenizer
    text: str = words.decode(ids[-len(stop) :])
    return text


def _role_at_start(text: str, shape: AnswerShape) -> str:
    return next((role for role in _roles(shape) if text.startswith(role)), "")


def _may_begin_with_role(text: str, shape: AnswerShape) -> bool:
    return any(role.startswith(text) for role in _roles(shape))


def _without_half_stop(text: str, shape: AnswerShape) -> str:
    if shape.stop is None:
        return text
    half = next((size for size in range(len(shape.stop) - 1, 0, -1) if text.endswith(shape.stop[:size])), 0)
    return text[: len(text) - half]


def _roles(shape: AnswerShape) -> list[str]:
    """Only where the model writes its role itself; elsewhere `Assistant:` is part of an answer."""
    return [role for role in (shape.role, shape.other_role) if role] if shape.role else []
