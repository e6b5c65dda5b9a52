"""Flat configs of the original code to Hugging Face's, on the published values (facts, section 1.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llavamed_cli.errors import ModelError
from llavamed_cli.model.chat_templates import template_for
from llavamed_cli.model.published.llava_config import (
    greedy_generation,
    ignored_keys,
    llava_config,
    select_strategy,
    text_config,
    whole_number,
)
from llavamed_cli.model.published.vocabulary import add_tokens

LLAVA_MED_15 = {
    "architectures": ["LlavaMistralForCausalLM"],
    "model_type": "llava_mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "max_position_embeddings": 32768,
    "hidden_act": "silu",
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": True,
    "torch_dtype": "bfloat16",
    "mm_hidden_size": 1024,
    "mm_projector_lr": None,
    "img_size": 640,
    "vision_backbone": "convnextlarge",
    "prompt_segtok_w_instruct": False,
}


def test_mistral_as_published() -> None:
    config: Any = text_config(LLAVA_MED_15, rows=32064)
    assert config.model_type == "mistral"
    assert (config.vocab_size, config.num_key_value_heads, config.head_dim) == (32064, 8, 128)
    assert config.rope_parameters == {"rope_theta": 1000000.0, "rope_type": "default"}
    assert (config.sliding_window, config.rms_norm_eps, config.max_position_embeddings) == (None, 1e-5, 32768)
    assert not hasattr(config, "mm_hidden_size")


def test_llama_as_published_in_2023() -> None:
    """v1.0 says neither rope_theta nor key-value heads: LLaMA's are 10,000 and as many as heads."""
    old = {"model_type": "llava", "vocab_size": 32004, "hidden_size": 4096, "intermediate_size": 11008}
    config: Any = text_config({**old, "num_hidden_layers": 32, "num_attention_heads": 32, "rms_norm_eps": 1e-6})
    assert (config.model_type, config.num_key_value_heads) == ("llama", 32)
    assert config.rope_parameters["rope_theta"] == 10000.0


def test_stretched_positions_are_kept() -> None:
    config: Any = text_config(
        {
            **LLAVA_MED_15,
            "model_type": "llava_llama",
            "architectures": [],
            "rope_scaling": {"type": "linear", "factor": 2.0},
        }
    )
    assert (config.rope_parameters["rope_type"], config.rope_parameters["factor"]) == ("linear", 2.0)


def test_left_overs_are_named() -> None:
    assert ignored_keys(LLAVA_MED_15) == ("img_size", "mm_projector_lr", "prompt_segtok_w_instruct", "vision_backbone")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"hidden_size": "wide"}, "makes no sense"),
        ({"model_type": "llava_mpt", "architectures": ["LlavaMptForCausalLM"]}, "llava_mpt; Llama and Mistral"),
        ({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}, "Llama and Mistral are supported"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        text_config({**LLAVA_MED_15, **change})


@pytest.mark.parametrize(
    ("feature", "class_token", "strategy", "tokens"),
    [("patch", True, "default", 576), ("cls_patch", True, "full", 577)],
)
def test_tokens_of_a_picture(feature: str, class_token: bool, strategy: str, tokens: int) -> None:
    from transformers import CLIPVisionConfig

    assert select_strategy(feature, class_token=class_token) == strategy
    vision = CLIPVisionConfig(image_size=336, patch_size=14)
    config: Any = llava_config(text_config(LLAVA_MED_15), vision, 32000, 32001, -2, strategy)
    assert (config.image_seq_length, config.image_token_index, config.pad_token_id) == (tokens, 32000, 32001)
    assert (config.vision_feature_layer, config.projector_hidden_act) == (-2, "gelu")


def test_a_tower_without_a_class_token_keeps_every_token() -> None:
    from transformers import SiglipVisionConfig

    assert select_strategy("patch", class_token=False) == "full"
    vision = SiglipVisionConfig(image_size=384, patch_size=14)
    assert llava_config(text_config(LLAVA_MED_15), vision, 32000, 32001, -2, "full").image_seq_length == 729


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_the_tower_lacks(layer: int) -> None:
    from transformers import CLIPVisionConfig

    with pytest.raises(ModelError, match=f"layer {layer} of a vision tower of 2 layers"):
        llava_config(text_config(LLAVA_MED_15), CLIPVisionConfig(num_hidden_layers=2), 32000, 32001, layer, "default")


@pytest.mark.parametrize(("raw", "number"), [({}, -2), ({"layer": None}, -2), ({"layer": -1}, -1)])
def test_a_whole_number_or_none(raw: dict[str, Any], number: int) -> None:
    assert whole_number(raw, "layer", -2) == number
    with pytest.raises(ModelError, match="layer is 'last', expected a whole number"):
        whole_number({"layer": "last"}, "layer", -2)


def test_an_unknown_selection_is_refused() -> None:
    with pytest.raises(ModelError, match="'slice'"):
        select_strategy("slice", class_token=True)


def test_generation_is_greedy_to_the_tokenizers_end(words: Callable[[], Any]) -> None:
    tokenizer = words()
    add_tokens(tokenizer)
    config: Any = greedy_generation(tokenizer, template_for("mistral_instruct", tokenizer))
    assert (config.do_sample, config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        False,
        1,
        2,
        tokenizer.pad_token_id,
    )
