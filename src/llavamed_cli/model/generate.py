"""Answers from a LLaVA: greedy, so that the same question gets the same answer; many at once, or one as it comes.

An answer ends at the model's end token, or where its chat format has a text for that (`###`), before that text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.answer_text import answer_of, answer_pieces, length_of_answer, stop_at
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.records import Turn

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@dataclass(frozen=True)
class Prompt:
    """A conversation whose last turn asks; its `<image>` markers stand for `pictures`. None: blind."""

    turns: tuple[Turn, ...]
    pictures: tuple[Image, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Generated:
    """An answer. confidence: geometric mean of its tokens' probabilities, the end marker's included."""

    text: str
    token_ids: tuple[int, ...]
    confidence: float


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
            **_ending(loaded, start),
        )
        # one step's logits are [batch, vocabulary]; of each only the chosen token's log-probability is kept
        chosen = torch.stack(
            [
                step.float().log_softmax(-1).gather(-1, output.sequences[:, start + index, None])[:, 0]
                for index, step in enumerate(output.logits)
            ],
            dim=1,
        )
    return [_read(loaded, output.sequences[row, start:], chosen[row]) for row in range(len(prompts))]


def stream_answer(loaded: LoadedModel, prompt: Prompt, *, max_new_tokens: int) -> Iterator[str]:
    """Yield an answer's text in pieces as they are made; closing the iterator early stops the model."""
    from threading import Event, Thread

    import torch
    from transformers import StoppingCriteria, TextIteratorStreamer

    processor: Any = loaded.processor
    streamer: Any = TextIteratorStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    stop = Event()
    failures: list[BaseException] = []

    class Stopped(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            return torch.full((input_ids.shape[0],), stop.is_set(), dtype=torch.bool, device=input_ids.device)

    def work() -> None:
        model: Any = loaded.model
        try:
            inputs = _inputs(loaded, [prompt])
            ending = _ending(loaded, inputs["input_ids"].shape[1])
            ending["stopping_criteria"].append(Stopped())
            with torch.inference_mode():
                model.generate(
                    **inputs,
                    do_sample=False,
                    num_beams=1,
                    max_new_tokens=max_new_tokens,
                    streamer=streamer,
                    **ending,
                )
        except BaseException as error:  # handed to the caller's thread below
            failures.append(error)
            streamer.end()

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield from answer_pieces((piece for piece in streamer if piece), loaded.chat.shape)
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


def _inputs(loaded: LoadedModel, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask [batch, longest], padded on the left; pixel_values [pictures, 3, height, width]."""
    import torch

    rows = [loaded.chat.encode_prompt(p.turns, [loaded.image_length] * len(p.pictures)) for p in prompts]
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


def _ending(loaded: LoadedModel, start: int) -> dict[str, Any]:
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


def _read(loaded: LoadedModel, tokens: torch.Tensor, log_probabilities: torch.Tensor) -> Generated:
    """Cut an answer at its end marker; what follows it in a batch is padding."""
    model: Any = loaded.model
    processor: Any = loaded.processor
    shape = loaded.chat.shape
    ends = model.generation_config.eos_token_id if shape.stop is None else processor.tokenizer.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    ids = tokens.tolist()
    length = next((index + 1 for index, token in enumerate(ids) if token in ends), len(ids))
    if shape.stop is not None:
        length = length_of_answer(processor.tokenizer, ids[:length], shape.stop)
    confidence = float(log_probabilities[:length].mean().exp()) if length else 0.0
    text = answer_of(processor.tokenizer.decode(ids[:length], skip_special_tokens=True), shape)
    return Generated(text=text, token_ids=tuple(ids[:length]), confidence=confidence)
