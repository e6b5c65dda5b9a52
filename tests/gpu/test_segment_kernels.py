"""Packed rows that share pictures: every kernel a GPU has learns what the loop on a CPU learns in fp32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llavamed_cli.model.attention import choose_attention
from llavamed_cli.model.segment_attention import FLEX, LOOP, VARLEN, use_segments
from llavamed_cli.model.segments import Segments

SHARED = Segments(
    ((0, 70), (70, 370), (370, 400), (400, 405), (405, 600)), (None, None, (70, 370), (70, 370), (70, 370))
)
ROWS = {"apart": Segments.apart((300, 7, 129)), "shared": SHARED, "longer": Segments.apart((1, 900, 40))}
WORDS = 100


class Part(torch.nn.Module):
    """A language model where `use_segments` looks for a LLaVA's."""

    def __init__(self, words: LlamaForCausalLM) -> None:
        super().__init__()
        self.words = words

    def set_attn_implementation(self, kernels: dict[str, str]) -> None:
        words: Any = self.words
        words.set_attn_implementation(kernels["text_config"])


def learn(device: str, kernel: str, dtype: torch.dtype) -> list[dict[str, torch.Tensor]]:
    """Each row's gradients, fp32 on the CPU; the rows in turn, as one compiled kernel must take all lengths."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    words: Any = LlamaForCausalLM(config).to(device, dtype)
    use_segments(Part(words), kernel)
    found = []
    for segments in ROWS.values():
        ids = torch.randint(0, WORDS, (1, segments.length), generator=torch.Generator().manual_seed(segments.length))
        places = torch.tensor(segments.positions)[None]
        states = words.model(
            input_ids=ids.to(device), position_ids=places.to(device), segments=segments, use_cache=False
        ).last_hidden_state[0]
        (states.float() ** 3).sum().div(segments.length).backward()
        found.append({name: one.grad.float().cpu() for name, one in words.model.named_parameters()})
        words.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize(
    ("kernel", "dtype"), [(LOOP, "float32"), (FLEX, "float32"), (FLEX, "bfloat16"), (VARLEN, "bfloat16")]
)
def test_a_kernel_learns_what_the_loop_learns(device: str, kernel: str, dtype: str) -> None:
    if device == "cpu" and kernel != LOOP:
        pytest.skip("this kernel needs CUDA to learn")
    if kernel == VARLEN and (choice := choose_attention(device, "bf16")).value != "flash_attention_2":
        pytest.skip(choice.reason)
    expected = learn("cpu", LOOP, torch.float32)
    for row, wanted in zip(learn(device, kernel, getattr(torch, dtype)), expected, strict=True):
        for name, gradient in wanted.items():
            likeness = torch.nn.functional.cosine_similarity(row[name].flatten(), gradient.flatten(), dim=0)
            assert likeness > (0.99999 if dtype == "float32" else 0.99), name
