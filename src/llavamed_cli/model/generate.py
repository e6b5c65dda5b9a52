"""Answers from a LLaVA: greedy, so that the same question gets the same answer; many at once. One at a time, as it
comes, is `running_answer`'s.

An answer ends at the model's end token, or where its chat format has a text for that (`###`), before that text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.answer_text import answer_of, length_of_answer, stop_at
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.yes_no import YesNo
from llavamed_cli.records import Turn

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@dataclass(frozen=True)
class Prompt:
    """A conversation whose last turn asks; its `<image>` markers stand for `pictures`. None: blind.

    system: what the model is told beforehand; None leaves it to its chat format.
    """

    turns: tuple[Turn, ...]
    pictures: tuple[Image, ...] = field(default=(), repr=False)
    system: str | None = None


@dataclass(frozen=True)
class Generated:
    """An answer. confidence: geometric mean of its tokens' probabilities, the end marker's included.

    Where it was watched as it came: yes_no, how its first token divides between the two; beginnings, what the answer
    could have begun with, the likeliest first: token ids, what the format made the model write before included, and
    the last one's probability.
    """

    text: str
    token_ids: tuple[int, ...]
    confidence: float
    yes_no: YesNo | None = None
    beginnings: tuple[tuple[tuple[int, ...], float], ...] = ()


def answer_batch(loaded: LoadedModel, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[Generated]:
    """Answer several prompts in one batch, padded on the left so that all answers start at the same place."""
    import torch

    model: Any = loaded.model
    inputs = _inputs(loaded, prompts)
    start = inputs["input_ids"].shape[1]
    with torch.inference_mode():
        output = model.generate(
            **inputs,
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            return_dict_in_generate=True,
            output_logits=True,
            **ending(loaded, start),
        )
        # one step's logits are [batch, vocabulary]; of each only the chosen token's log-probability is kept
        chosen = torch.stack(
            [
                step.float().log_softmax(-1).gather(-1, output.sequences[:, start + index, None])[:, 0]
                for index, step in enumerate(output.logits)
            ],
            dim=1,
        )
    return [read_answer(loaded, output.sequences[row, start:], chosen[row]) for row in range(len(prompts))]


def prompt_ids(loaded: LoadedModel, prompt: Prompt) -> tuple[int, ...]:
    """A prompt as the model reads it, every picture expanded to its tokens. Raises DataError."""
    lengths = [loaded.image_length] * len(prompt.pictures)
    return loaded.chat.encode_prompt(prompt.turns, lengths, system=prompt.system)


def _inputs(loaded: LoadedModel, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask [batch, longest], padded on the left; pixel_values [pictures, 3, height, width]."""
    import torch

    rows = [prompt_ids(loaded, prompt) for prompt in prompts]
    longest = max(len(row) for row in rows)
    processor: Any = loaded.processor
    ids = torch.full((len(rows), longest), processor.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = torch.tensor(row)
        mask[index, longest - len(row) :] = 1
    inputs = {"input_ids": ids.to(loaded.device), "attention_mask": mask.to(loaded.device)}
    pictures = [picture for prompt in prompts for picture in prompt.pictures]
    if pictures:
        model: Any = loaded.model
        inputs["pixel_values"] = loaded.pixels(pictures).to(loaded.device, model.dtype)
    return inputs


def ending(loaded: LoadedModel, start: int) -> dict[str, Any]:
    """What tells `generate` where answers end; `start` tokens are the prompt.

    Where a text ends them, the stand-ins in the folder's generation config (`ChatFormat.stop_token_ids`) are left out:
    they are for tools that cannot look for text, and end one token early.
    """
    from transformers import StoppingCriteriaList

    processor: Any = loaded.processor
    stop = loaded.chat.shape.stop
    if stop is None:
        return {"stopping_criteria": StoppingCriteriaList()}
    return {
        "stopping_criteria": StoppingCriteriaList([stop_at(processor.tokenizer, stop, start)]),
        "eos_token_id": processor.tokenizer.eos_token_id,
    }


def end_ids(loaded: LoadedModel) -> frozenset[int]:
    """The tokens at which generation ends."""
    model: Any = loaded.model
    processor: Any = loaded.processor
    ends = model.generation_config.eos_token_id if loaded.chat.shape.stop is None else processor.tokenizer.eos_token_id
    return frozenset(ends if isinstance(ends, list) else [ends])


def read_answer(loaded: LoadedModel, tokens: torch.Tensor, log_probabilities: torch.Tensor) -> Generated:
    """Cut an answer at its end marker; what follows it in a batch is padding."""
    processor: Any = loaded.processor
    shape = loaded.chat.shape
    ends = end_ids(loaded)
    ids = tokens.tolist()
    length = next((index + 1 for index, token in enumerate(ids) if token in ends), len(ids))
    if shape.stop is not None:
        length = length_of_answer(processor.tokenizer, ids[:length], shape.stop)
    confidence = float(log_probabilities[:length].mean().exp()) if length else 0.0
    text = answer_of(processor.tokenizer.decode(ids[:length], skip_special_tokens=True), shape)
    return Generated(text=text, token_ids=tuple(ids[:length]), confidence=confidence)
