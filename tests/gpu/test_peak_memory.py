"""The most memory that answering takes stays under the plan, and not far under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from llavamed_cli.model.memory_plan import ModelShape, plan_memory

PICTURE, TEXT, ANSWER = 256, 128, 32
IMAGE = 999


def build(device: str, dtype: torch.dtype) -> Any:
    """A LLaVA of a few million numbers, in published proportions."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    words = LlamaConfig(
        vocab_size=1024, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4
    )
    tower = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=224,
        patch_size=14,
    )
    config = LlavaConfig(text_config=words, vision_config=tower, image_token_index=IMAGE)
    model: Any = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = None
    return model.to(device, dtype).eval()


def peak_bytes(device: str, work: Callable[[], object]) -> int:
    """The most that `work` has allocated at one time, beyond what was there."""
    work()  # what is made once (work space, kernels) is no part of it
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    events: list[Any] = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def test_answering_stays_under_the_plan(device: str) -> None:
    dtype = torch.float16 if device == "cuda" else torch.float32
    model = build(device, dtype)
    ids = torch.cat([torch.full((1, PICTURE), IMAGE), torch.zeros(1, TEXT, dtype=torch.long)], dim=1).to(device)
    pixels = torch.zeros(1, 3, 224, 224, dtype=dtype, device=device)

    def answer() -> object:
        with torch.inference_mode():
            return model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels,
                do_sample=False,
                min_new_tokens=ANSWER,
                max_new_tokens=ANSWER,
                return_dict_in_generate=True,
                output_logits=True,
            )

    plan = plan_memory(
        ModelShape.of(model.config), "plain", dtype, picture_tokens=PICTURE, prompt_tokens=TEXT, new_tokens=ANSWER
    )
    planned = plan.cache + plan.activations
    assert planned / 2 < peak_bytes(device, answer) <= planned
