"""Which models may share prefixes; the others are named with their reason."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, GenerationConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from llavamed_cli.model.shareable import HISTORY, why_not_shared


def llava(**text: Any) -> Any:
    words = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, **text
    )
    tower = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    with torch.device("meta"):
        return LlavaForConditionalGeneration(LlavaConfig(text_config=words, vision_config=tower))


def test_a_plain_llama_shares() -> None:
    assert why_not_shared(llava()) is None
    assert why_not_shared(llava(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})) is None


def test_the_neutral_values_are_transformers_own() -> None:
    """A setting that is left out, or that transformers fills in itself, stands against nothing."""
    fresh = GenerationConfig()
    assert all(getattr(fresh, name, None) in neutral for name, neutral in HISTORY.items())


@pytest.mark.parametrize(
    ("name", "value"),
    [("no_repeat_ngram_size", 2), ("bad_words_ids", [[3]]), ("min_new_tokens", 4), ("stop_strings", ["a"])],
)
def test_settings_of_generation_are_named(name: str, value: Any) -> None:
    model = llava()
    setattr(model.generation_config, name, value)
    assert f"asks for {name}" in str(why_not_shared(model))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"layer_types": ["full_attention", "linear_attention"]}, "its layers have linear_attention"),
        ({"attn_logit_softcapping": 30.0}, "attn_logit_softcapping"),
        ({"alibi": True}, "alibi"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "dynamic"),
        ({"rope_parameters": {"full_attention": {"rope_type": "longrope"}}}, "longrope"),
    ],
)
def test_other_attentions_are_named(changes: dict[str, Any], reason: str) -> None:
    words = SimpleNamespace(
        _supports_attention_backend=True, layers=[], config=SimpleNamespace(model_type="x", **changes)
    )
    model = SimpleNamespace(model=SimpleNamespace(language_model=words), generation_config=GenerationConfig())
    assert reason in str(why_not_shared(model))
    words.config = SimpleNamespace(model_type="x")
    assert why_not_shared(model) is None
    words._supports_attention_backend = False
    assert "brings its own attention" in str(why_not_shared(model))
