"""Tensor names of every age, against those that transformers itself holds and saves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.names import classic_name, classic_name_of_original, renamed, split_ignored

CLIP = "clip_vision_model"


@pytest.mark.parametrize(
    ("stored", "classic"),
    [
        ("language_model.model.layers.0.mlp.up_proj.weight", None),
        ("model.language_model.layers.0.mlp.up_proj.weight", "language_model.model.layers.0.mlp.up_proj.weight"),
        ("language_model.layers.0.mlp.up_proj.weight", "language_model.model.layers.0.mlp.up_proj.weight"),
        ("language_model.lm_head.weight", None),
        ("lm_head.weight", "language_model.lm_head.weight"),
        ("model.language_model.lm_head.weight", "language_model.lm_head.weight"),
        ("multi_modal_projector.linear_1.bias", None),
        ("model.multi_modal_projector.linear_1.bias", "multi_modal_projector.linear_1.bias"),
        ("vision_tower.vision_model.pre_layrnorm.bias", None),
        ("vision_tower.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias"),
        ("model.vision_tower.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias"),
        ("model.vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias"),
        ("model.image_newline", None),
    ],
)
def test_ages_of_hugging_face(stored: str, classic: str | None) -> None:
    assert classic_name(stored, CLIP) == (classic or stored)


@pytest.mark.parametrize("tower", ["clip", "siglip", "vit", "dinov2"])
def test_in_memory_and_saved_names_are_one(random_llava: Callable[..., Any], tmp_path: Path, tower: str) -> None:
    model = random_llava("llama", tower)
    kind = model.config.vision_config.model_type
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        saved = set(file.keys())
    held = {classic_name(name, kind) for name in model.state_dict()}
    assert held == {classic_name(name, kind) for name in saved}
    inner = "vision_tower.vision_model." if tower in ("clip", "siglip") else "vision_tower."
    assert held == {name.replace("vision_tower.", inner) for name in saved}


@pytest.mark.parametrize(
    ("stored", "classic"),
    [
        ("model.embed_tokens.weight", "language_model.model.embed_tokens.weight"),
        ("model.norm.weight", "language_model.model.norm.weight"),
        ("lm_head.weight", "language_model.lm_head.weight"),
        ("model.mm_projector.0.weight", "multi_modal_projector.linear_1.weight"),
        ("model.mm_projector.2.bias", "multi_modal_projector.linear_2.bias"),
        (
            "model.vision_tower.vision_tower.vision_model.post_layernorm.bias",
            "vision_tower.vision_model.post_layernorm.bias",
        ),
        ("model.image_newline", "model.image_newline"),
    ],
)
def test_the_original_code(stored: str, classic: str) -> None:
    assert classic_name_of_original(stored, CLIP) == classic


def test_buffers_of_old_are_left_out_with_a_reason() -> None:
    rope, numbers = "model.layers.0.self_attn.rotary_emb.inv_freq", "vision_tower.vision_model.embeddings.position_ids"
    kept, ignored = split_ignored(["lm_head.weight", rope, numbers])
    assert kept == ["lm_head.weight"]
    assert sorted(ignored.values()) == [(rope,), (numbers,)]
    assert all(" " in reason for reason in ignored)


def test_one_tensor_under_two_names_is_refused() -> None:
    with pytest.raises(ModelError, match="stored twice"):
        renamed({"a": 1, "b": 2}, {"a": "same", "b": "same"})
