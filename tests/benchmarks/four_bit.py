"""A model in four precisions, beside itself in fp32:  python tests/benchmarks/four_bit.py MODEL_FOLDER [PICTURES]

For each: the memory of its weights, the cosine of its next-token logits and the share of greedy answers that are the
same, tokens a second, and whether it is the same model after it has answered, been saved, and been opened again.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.save import save_model
from llavamed_cli.phantoms import draw_phantoms, questions
from llavamed_cli.records import IMAGE_MARKER, Turn

PRECISIONS = ("fp32", "bf16", "8bit", "4bit")
NEW_TOKENS, TIMED_TOKENS = 24, 33


@dataclass(frozen=True)
class Measured:
    """logits: of each prompt's next token, [prompts, vocabulary]. seconds: of one prompt; rate: new tokens a second."""

    logits: torch.Tensor
    answers: list[str]
    seconds: float
    rate: float


def prompts(count: int) -> list[Prompt]:
    """A question about each of `count` phantoms."""
    return [
        Prompt((Turn(speaker="human", text=f"{IMAGE_MARKER}\n{questions(phantom)[0].text}"),), (phantom.picture,))
        for phantom in draw_phantoms(count, split="test", seed=0)
    ]


def next_logits(loaded: LoadedModel, prompt: Prompt) -> torch.Tensor:
    """Logits of the answer's first token, [vocabulary]."""
    model: Any = loaded.model
    ids = loaded.chat.encode_prompt(prompt.turns, [loaded.image_length])
    pixels = loaded.pixels(list(prompt.pictures)).to(loaded.device, model.dtype)
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([ids], device=loaded.device), pixel_values=pixels, logits_to_keep=1)
    logits: torch.Tensor = output.logits[0, -1].float().cpu()
    return logits


def measure(loaded: LoadedModel, asked: list[Prompt]) -> Measured:
    """Look at every prompt, answer each by itself, and time one long answer (the best of three)."""
    logits = torch.stack([next_logits(loaded, prompt) for prompt in asked])
    answers = [answer_batch(loaded, [prompt], max_new_tokens=NEW_TOKENS)[0].text for prompt in asked]
    reading = min(seconds(loaded, asked[0], 1) for _ in range(3))
    whole = min(seconds(loaded, asked[0], TIMED_TOKENS) for _ in range(3))
    return Measured(logits, answers, reading, (TIMED_TOKENS - 1) / (whole - reading))


def seconds(loaded: LoadedModel, prompt: Prompt, tokens: int) -> float:
    """The time of exactly so many new tokens."""
    model: Any = loaded.model
    ids = torch.tensor([loaded.chat.encode_prompt(prompt.turns, [loaded.image_length])], device=loaded.device)
    pixels = loaded.pixels(list(prompt.pictures)).to(loaded.device, model.dtype)
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    began = time.perf_counter()
    with torch.inference_mode():
        model.generate(**asked, do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens)
    return time.perf_counter() - began


def held_bytes(model: Any) -> int:
    """Bytes of all weights and of what bitsandbytes keeps beside them."""
    tensors = list(model.parameters())
    for layer in model.modules():
        state = getattr(layer, "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
        if type(layer).__name__ == "Linear8bitLt":
            tensors.append(layer.state.SCB if layer.state.SCB is not None else layer.weight.SCB)
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def main(folder: Path, count: int) -> None:
    """Print a Markdown table."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    asked = prompts(count)
    exact: Measured | None = None
    print("| precision | weights | planned | cosine with fp32 | same answers | prompt | tokens/s | load | reopened |")
    print("|---" * 9 + "|", flush=True)
    for precision in PRECISIONS:
        began = time.perf_counter()
        loaded = load_model(str(folder), precision=precision)
        load_seconds = time.perf_counter() - began
        held = held_bytes(loaded.model)
        found = measure(loaded, asked)
        exact = exact or found
        cosine = torch.nn.functional.cosine_similarity(found.logits, exact.logits).mean()
        same = sum(one == other for one, other in zip(found.answers, exact.answers, strict=True))
        with tempfile.TemporaryDirectory() as place:
            save_model(loaded.model, loaded.processor, Path(place))
            again = load_model(place, precision=precision)
            difference = max(
                float((next_logits(again, prompt) - row).abs().max())
                for prompt, row in zip(asked, found.logits, strict=True)
            )
        planned = loaded.plan.weight_bytes if loaded.plan is not None else 0
        print(
            f"| {precision} | {held / 1e6:.1f} MB | {planned / 1e6:.1f} MB | {cosine:.4f} | {same} of {count} "
            f"| {found.seconds:.2f} s | {found.rate:.1f} | {load_seconds:.1f} s | logits differ by {difference:g} |",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 12)
