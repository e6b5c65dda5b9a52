"""Attention kernels give the same answer: flash attention and PyTorch's on a GPU, PyTorch's two on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.model.attention import choose_attention
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model

Logits = Callable[[LoadedModel, Prompt], torch.Tensor]

BF16_STEP = 2.0**-8
"""bf16 keeps 8 bits of a number."""


@pytest.fixture
def kernels(device: str) -> tuple[str, str]:
    """The two to compare."""
    if device == "cpu":
        return "eager", "sdpa"
    choice = choose_attention("cuda", "bf16")
    if choice.value != "flash_attention_2":
        pytest.skip(choice.reason)
    return "sdpa", choice.value


@pytest.fixture
def loaded(device: str, tiny_model: Path) -> LoadedModel:
    """`tiny` in bf16."""
    return load_model(str(tiny_model), device=device, precision="bf16")


def switch(loaded: LoadedModel, kernel: str) -> None:
    model: Any = loaded.model
    model.set_attn_implementation(kernel)
    assert {part._attn_implementation for part in (model.config.text_config, model.config.vision_config)} == {kernel}


def test_they_agree_within_rounding(
    loaded: LoadedModel, kernels: tuple[str, str], prompts: list[Prompt], logits_of: Logits
) -> None:
    seen = []
    for kernel in kernels:
        switch(loaded, kernel)
        seen.append(torch.stack([logits_of(loaded, prompt) for prompt in prompts]))
    one, other = seen
    assert torch.nn.functional.cosine_similarity(one, other, dim=-1).min() > 0.999
    assert (one - other).abs().max() <= 16 * BF16_STEP * one.abs().max()


def test_a_padded_batch_answers_as_one_by_one_does(
    loaded: LoadedModel, kernels: tuple[str, str], prompts: list[Prompt]
) -> None:
    """The first token's probability: later ones may part where two are as good as equal."""
    for kernel in kernels:
        switch(loaded, kernel)
        together = answer_batch(loaded, prompts, max_new_tokens=1)
        apart = [answer_batch(loaded, [prompt], max_new_tokens=1)[0] for prompt in prompts]
        for one, other in zip(together, apart, strict=True):
            assert one.confidence == pytest.approx(other.confidence, rel=0.1)


def test_the_choice_is_what_the_model_runs(loaded: LoadedModel, device: str) -> None:
    model: Any = loaded.model
    choice = loaded.choices["attention"]
    assert model.config.text_config._attn_implementation == choice.value
    assert choice.value == "sdpa" if device == "cpu" else choice.value in ("sdpa", "flash_attention_2")
    assert choice.reason
