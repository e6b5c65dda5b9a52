"""The last feed-forward part at graded positions alone changes no number that is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModel, GemmaConfig, LlamaConfig, MistralConfig, MixtralConfig, Phi3Config, Qwen2Config

from llavamed_cli.model.last_layer import spare_last_layer

TOKENS, GRADED = 20, torch.tensor([3, 4, 11, 19])
small: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": LlamaConfig(**small),
    "mistral": MistralConfig(**small),
    "qwen2": Qwen2Config(**small),
    "gemma": GemmaConfig(**small, head_dim=8),
    "phi3": Phi3Config(**small),
}


def open_words(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModel.from_config(config).train()


def learn(words: Any, **options: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """States of the graded tokens, and gradients."""
    ids = torch.arange(1, TOKENS + 1)[None]
    states = words(input_ids=ids, use_cache=False, **options).last_hidden_state[0, GRADED]
    (states**3).sum().backward()
    gradients = {name: one.grad for name, one in words.named_parameters() if one.grad is not None}
    words.zero_grad(set_to_none=True)
    return states.detach(), gradients


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("name", CONFIGS)
def test_states_and_gradients_stay(name: str, checkpointing: bool) -> None:
    words = open_words(CONFIGS[name])
    expected, expected_gradients = learn(words)
    if checkpointing:
        enable = getattr(words, "activation_checkpointing_enable", None) or words.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    spare_last_layer(words)
    computed: list[int] = []
    words.layers[-1].mlp.down_proj.register_forward_hook(lambda part, inputs, output: computed.append(output.shape[1]))
    found, gradients = learn(words, graded=GRADED)
    assert computed == [len(GRADED)] * (1 + checkpointing)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for parameter, gradient in expected_gradients.items():
        torch.testing.assert_close(gradients[parameter], gradient, atol=1e-5, rtol=1e-5)


def test_without_the_keyword_all_positions_are_computed() -> None:
    words = open_words(CONFIGS["llama"])
    ids = torch.arange(1, TOKENS + 1)[None]
    expected = words(input_ids=ids).last_hidden_state
    for _ in range(2):
        spare_last_layer(words)
    learn(words, graded=GRADED)
    assert torch.equal(words(input_ids=ids).last_hidden_state, expected)


def test_a_row_that_failed_half_way_leaves_nothing_behind() -> None:
    words = open_words(CONFIGS["llama"])
    ids = torch.arange(1, TOKENS + 1)[None]
    expected = words(input_ids=ids).last_hidden_state
    spare_last_layer(words)
    broken = words.layers[-1].mlp.up_proj.register_forward_pre_hook(lambda part, inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        words(input_ids=ids, graded=GRADED)
    broken.remove()
    assert torch.equal(words(input_ids=ids).last_hidden_state, expected)


def test_layers_of_experts_are_left_alone() -> None:
    words = open_words(MixtralConfig(**small, num_local_experts=2))
    expected, _ = learn(words)
    spare_last_layer(words)
    found, _ = learn(words, graded=GRADED)
    assert torch.equal(found, expected)
