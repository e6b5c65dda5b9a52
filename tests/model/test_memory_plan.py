"""What a plan promises, held against bytes counted in real models and against published sizes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.model.load import load_model
from llavamed_cli.model.memory_plan import MemoryPlan, ModelShape, plan_memory
from llavamed_cli.model.quantise import has_bitsandbytes


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts beside the tests, as modules."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))


def config(kind: str) -> Any:
    """Small LLaVAs: shared or own heads, tied or not, with or without biases, four kinds of tower, odd widths."""
    from transformers import (
        CLIPVisionConfig,
        Dinov2Config,
        LlamaConfig,
        LlavaConfig,
        MistralConfig,
        SiglipVisionConfig,
        ViTConfig,
    )

    tower = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    words = {"vocab_size": 80, "num_hidden_layers": 2}
    wide = {**words, "hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4}
    odd = {**words, "hidden_size": 36, "intermediate_size": 50, "num_attention_heads": 3}
    inner = {"intermediate_size": 40}
    text, vision, tied = {
        "clip": (MistralConfig(**wide, num_key_value_heads=2), CLIPVisionConfig(**tower, **inner), False),
        "siglip": (LlamaConfig(**wide, tie_word_embeddings=True), SiglipVisionConfig(**tower, **inner), True),
        "dinov2": (LlamaConfig(**odd), Dinov2Config(**tower, mlp_ratio=2), False),
        "vit": (LlamaConfig(**odd, attention_bias=True), ViTConfig(**tower, **inner), False),
    }[kind]
    return LlavaConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)


KINDS = ["clip", "siglip", "dinov2", "vit"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_and_cache_of_a_real_model(kind: str, dtype: torch.dtype) -> None:
    from transformers import DynamicCache, LlavaForConditionalGeneration

    settings = config(kind)
    model: Any = LlavaForConditionalGeneration(settings).to(dtype).eval()
    plan = plan_memory(
        ModelShape.of(settings), "plain", dtype, picture_tokens=0, pictures=0, prompt_tokens=11, new_tokens=2
    )
    words = model.model.language_model
    parts = {
        "language model": sum(p.nbytes for n, p in words.named_parameters() if n.endswith("_proj.weight")),
        "projector": sum(p.nbytes for p in model.model.multi_modal_projector.parameters()),
        "vision tower": sum(p.nbytes for p in model.model.vision_tower.parameters()),
    }
    assert {name: size for name, size in plan.weights.items() if name in parts} == parts
    assert plan.weight_bytes == sum(parameter.nbytes for parameter in model.parameters())

    cache = DynamicCache(config=settings.text_config)
    with torch.inference_mode():
        model(input_ids=torch.zeros(1, 13, dtype=torch.long), past_key_values=cache)
    assert plan.tokens == 13
    assert plan.cache == sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


@pytest.mark.skipif(not has_bitsandbytes(), reason="bitsandbytes is not installed")
@pytest.mark.parametrize("precision", ["4bit", "8bit"])
def test_quantised_weights_of_a_real_model(precision: str, tiny_model: Path) -> None:
    loaded = load_model(str(tiny_model), device="cpu", precision=precision)
    assert loaded.plan is not None
    assert loaded.plan.weight_bytes == importlib.import_module("four_bit").held_bytes(loaded.model)


def test_activations_cover_what_is_allocated_and_little_more() -> None:
    """PyTorch's own record of a prompt read on a CPU: the peak above what is kept afterwards."""
    from torch.profiler import ProfilerActivity, profile
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    settings = LlavaConfig(
        text_config=LlamaConfig(
            vocab_size=1000, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4
        ),
        vision_config=CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=4,
            image_size=224,
            patch_size=14,
        ),
        image_token_index=999,
    )
    model: Any = LlavaForConditionalGeneration(settings).eval()
    ids = torch.cat([torch.full((1, 256), 999), torch.zeros(1, 200, dtype=torch.long)], dim=1)
    pixels = torch.zeros(1, 3, 224, 224)

    def read() -> Any:
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, logits_to_keep=1)

    read()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        output = read()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    plan = plan_memory(
        ModelShape.of(settings), "fp32", torch.float32, picture_tokens=256, prompt_tokens=200, new_tokens=1
    )
    cache = sum(layer.keys.nbytes + layer.values.nbytes for layer in output.past_key_values.layers)
    assert peak - cache <= plan.activations <= 2 * (peak - cache)


def published() -> dict[str, list[MemoryPlan]]:
    found: dict[str, list[MemoryPlan]] = importlib.import_module("memory_plan").plans()
    return found


def test_published_sizes() -> None:
    """Mistral 7B has 7,241,732,096 numbers, LLaMA 7B 6,738,415,616, CLIP ViT-L/14-336's vision side 303,507,456."""
    rows = 64 * 4096 * 2  # of table and head, for `<image>` and padding
    for name, language in {
        "LLaVA-Med v1.5 7B (Mistral)": 7_241_732_096,
        "LLaVA v1.5 7B (Vicuna)": 6_738_415_616,
    }.items():
        plan = next(plan for plan in published()[name] if plan.precision == "bf16")
        assert plan.weights["language model"] + plan.weights["vocabulary"] == 2 * (language + rows)
        assert plan.weights["vision tower"] == 2 * 303_507_456
        assert plan.weights["projector"] == 2 * (1024 * 4096 + 4096 + 4096 * 4096 + 4096)


def test_seven_billion_in_four_bits_fit_six_gigabytes() -> None:
    plan = published()["LLaVA-Med v1.5 7B (Mistral)"][0]
    assert (plan.precision, plan.tokens) == ("4bit", 576 + 256 + 1024)
    assert plan.cache == plan.tokens * 32 * 2 * 8 * 128 * 2  # layers, keys and values, heads, width, bytes
    assert plan.weight_bytes + plan.cache < plan.total < 6 * 10**9


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module("memory_plan").main()
    rows = capsys.readouterr().out.splitlines()
    assert "| LLaVA-Med v1.5 7B (Mistral) | 4bit | 3.60 | 0.53 | 0.04 | 0.61 | 4.78 | 0.24 |" in rows[2]
    assert len(rows) == 2 + 3 * 4


def test_a_plan_in_words() -> None:
    plan = MemoryPlan("4bit", {"language model": 3 * 10**9, "projector": 4 * 10**7}, 1700, 2 * 10**8, 10**8)
    assert plan.sentence() == "3.34 GB = weights 3.04 + cache of 1,700 tokens 0.20 + activations 0.10"
    assert plan.lines() == [
        "language model              3.00 GB",
        "projector                   0.04 GB",
        "cache, 1,700 tokens         0.20 GB",
        "activations                 0.10 GB",
        "in all, 4bit                3.34 GB",
    ]
