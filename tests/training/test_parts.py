"""What learns: the parts and patterns a recipe names and no others, in fp32; and a plain LLaVA at the end."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    Dinov2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
    ViTConfig,
)

from llavamed_cli.errors import UsageError
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.quantise import has_bitsandbytes
from llavamed_cli.training.parts import count, merge_parts, prepare_parts, tower_learns, trained_parameters
from llavamed_cli.training.recipe import Recipe

Open = Callable[[], LoadedModel]
BOTH = ("projector", "lm")
PROJECTOR = {f"model.multi_modal_projector.linear_{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("train", "inside", "outside"),
    [
        (("projector",), ["multi_modal_projector"], ["language_model", "lm_head", "vision_tower"]),
        (("lm",), ["language_model"], ["multi_modal_projector", "vision_tower"]),
        (BOTH, ["language_model", "multi_modal_projector"], ["vision_tower"]),
    ],
)
def test_the_parts_named_learn_and_no_others(
    train: tuple[str, ...], inside: list[str], outside: list[str], open_tiny: Open
) -> None:
    model: Any = prepare_parts(open_tiny().model, Recipe(train=train), seed=0)
    learning = set(trained_parameters(model))
    for name, _ in model.named_parameters():
        if any(part in name for part in inside):
            assert name in learning
        if any(part in name for part in outside):
            assert name not in learning
    assert learning


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (("embeddings",), {"model.language_model.embed_tokens.weight"}),
        (("lm_head",), {"model.language_model.embed_tokens.weight"}),  # they are tied in this model
        (("projector", "*_layernorm.weight"), None),
        (("model.language_model.layers.[01].mlp.*",), None),
    ],
)
def test_smaller_parts_and_patterns(train: tuple[str, ...], expected: set[str] | None, open_tiny: Open) -> None:
    learning = set(trained_parameters(prepare_parts(open_tiny().model, Recipe(train=train), seed=0)))
    if expected is None and "projector" in train:
        kinds = ("input", "post_attention")
        expected = PROJECTOR | {
            f"model.language_model.layers.{layer}.{kind}_layernorm.weight" for layer in range(4) for kind in kinds
        }
    elif expected is None:
        kinds = ("gate", "up", "down")
        expected = {f"model.language_model.layers.{n}.mlp.{kind}_proj.weight" for n in (0, 1) for kind in kinds}
    assert learning == expected


def test_a_pattern_that_matches_nothing_names_the_nearest(open_tiny: Open) -> None:
    recipe = Recipe(train=("projector", "model.language_model.layers.0.self_atn.*"))
    with pytest.raises(UsageError, match=r"'model.language_model.layers.0.self_atn.\*' cannot learn: no par") as error:
        prepare_parts(open_tiny().model, recipe, seed=0)
    assert "model.language_model.layers.0.self_attn." in str(error.value.hint)


def test_a_weight_does_not_learn_twice(open_tiny: Open) -> None:
    recipe = Recipe(train=("lm", "model.language_model.layers.0.*"), lora_rank=2)
    with pytest.raises(UsageError, match="learns by low-rank additions already"):
        prepare_parts(open_tiny().model, recipe, seed=0)


def llava_with(vision: Any) -> LlavaForConditionalGeneration:
    words = LlamaConfig(vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    config = LlavaConfig(
        vision_config=vision,
        text_config=words,
        vision_feature_layer=-2,
        vision_feature_select_strategy="full",
        image_token_index=39,
    )
    return LlavaForConditionalGeneration(config)


SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}


@pytest.mark.parametrize("kind", [CLIPVisionConfig, SiglipVisionConfig, ViTConfig, Dinov2Config])
def test_of_a_tower_what_is_read_learns(kind: type) -> None:
    """LLaVA reads the layer before the last: the last layer and what comes after it have no say."""
    vision = kind(**{k: v for k, v in SMALL.items() if not (kind is Dinov2Config and k == "intermediate_size")})
    model: Any = prepare_parts(llava_with(vision), Recipe(train=("vision_tower",)), seed=0)
    learning = set(trained_parameters(model))
    assert tower_learns(model)
    names = {name for name, _ in model.named_parameters() if "vision_tower" in name}
    left_out = {name for name in names if any(part in name for part in ("layers.2.", "layer.2.", "post_layernorm"))}
    left_out |= {name for name in names if name.endswith((".layernorm.weight", ".layernorm.bias", "mask_token"))}
    left_out |= {name for name in names if "pooler" in name or ".head." in name}
    assert learning == names - left_out
    pixels = torch.randn(1, 3, 16, 16)
    seen = 4 if kind is SiglipVisionConfig else 5  # patches, and a class token
    ids = torch.tensor([[39] * seen + [1, 2, 3]])
    model(input_ids=ids, pixel_values=pixels, labels=ids.clamp(max=30)).loss.backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == learning


def test_what_no_feature_depends_on_is_refused() -> None:
    model = llava_with(CLIPVisionConfig(**SMALL))
    with pytest.raises(UsageError, match=r"nothing reads model\.vision_tower.*fed from an earlier layer"):
        prepare_parts(model, Recipe(train=("projector", "*post_layernorm*")), seed=0)


def test_a_frozen_tower_does_not_learn(open_tiny: Open) -> None:
    assert not tower_learns(prepare_parts(open_tiny().model, Recipe(train=BOTH), seed=0))


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("train", [("lm",), BOTH])
def test_gradients_are_the_same_with_checkpointing(train: tuple[str, ...], rank: int, open_tiny: Open) -> None:
    """Also where nothing before the language model has a gradient: LoRA alone."""

    def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
        recipe = Recipe(train=train, lora_rank=rank, gradient_checkpointing=checkpointing)
        model: Any = prepare_parts(open_tiny().model, recipe, seed=0)
        assert model.model.language_model.is_gradient_checkpointing == checkpointing
        model.train()
        ids = torch.tensor([[model.config.image_token_id] * 64 + list(range(5, 30))])
        pixels = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
        model(input_ids=ids, pixel_values=pixels, labels=ids.clamp(max=200), use_cache=False).loss.backward()
        return {name: parameter.grad for name, parameter in trained_parameters(model).items()}

    plain, checkpointed = gradients(False), gradients(True)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        assert torch.equal(gradient, checkpointed[name]), name


def test_a_tower_that_learns_is_checkpointed_too() -> None:
    def gradients(checkpointing: bool) -> dict[str, Any]:
        torch.manual_seed(0)
        recipe = Recipe(train=("vision_tower", "lm"), gradient_checkpointing=checkpointing)
        model: Any = prepare_parts(llava_with(CLIPVisionConfig(**SMALL)), recipe, seed=0)
        assert model.model.vision_tower.is_gradient_checkpointing == checkpointing
        model.train()
        ids = torch.tensor([[39] * 5 + [1, 2, 3]])
        pixels = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
        model(input_ids=ids, pixel_values=pixels, labels=ids.clamp(max=30), use_cache=False).loss.backward()
        return {name: parameter.grad for name, parameter in trained_parameters(model).items()}

    plain, checkpointed = gradients(False), gradients(True)
    assert all(torch.equal(gradient, checkpointed[name]) for name, gradient in plain.items())


def test_what_learns_is_held_in_fp32_and_the_rest_as_it_is(tiny_model: Path) -> None:
    loaded = load_model(str(tiny_model), device="cpu", precision="bf16")
    model: Any = prepare_parts(loaded.model, Recipe(train=("projector",)), seed=0)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if "projector" in name else torch.bfloat16), name


@pytest.mark.skipif(not has_bitsandbytes(), reason="bitsandbytes is not installed")
def test_quantised_weights_do_not_learn(tiny_model: Path) -> None:
    loaded = load_model(str(tiny_model), device="cpu", for_training=True, quantise="4bit")
    with pytest.raises(UsageError, match="is quantised, and cannot learn"):
        prepare_parts(loaded.model, Recipe(train=("model.language_model.layers.0.mlp.*",)), seed=0)


def test_without_additions_merging_changes_nothing(open_tiny: Open) -> None:
    model: Any = prepare_parts(open_tiny().model, Recipe(train=BOTH), seed=0)
    before = copy.deepcopy(model.state_dict())
    merge_parts(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert count(trained_parameters(model)) == sum(p.numel() for n, p in model.named_parameters() if "tower" not in n)
