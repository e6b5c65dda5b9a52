"""Every tensor accounted for, or an error that lists it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.complete import complete, model_shapes
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.names import classic_name
from llavamed_cli.model.published.reading import LoadReport, Reading

NORM = "language_model.model.norm.weight"


@pytest.fixture
def reading(random_llava: Callable[..., Any]) -> Callable[..., Reading]:
    """A whole reading of a random model; processor and generation config play no part here."""

    def make(tower: str = "clip", **settings: Any) -> Reading:
        model: Any = random_llava("llama", tower, **settings)
        kind = model.config.vision_config.model_type
        tensors = {classic_name(name, kind): LazyTensor.of(tensor) for name, tensor in model.state_dict().items()}
        nothing: Any = None
        return Reading(model.config, nothing, nothing, tensors, LoadReport("made here", {}, used=0))

    return make


def test_a_whole_one_passes_and_is_counted(reading: Callable[..., Reading]) -> None:
    whole = reading()
    checked = complete(whole, "here")
    assert dict(checked.tensors) == dict(whole.tensors)
    assert checked.report.used == len(whole.tensors)


def test_faults_are_listed_together(reading: Callable[..., Reading]) -> None:
    whole = reading()
    tensors = dict(whole.tensors)
    del tensors[NORM]
    tensors["model.image_newline"] = LazyTensor.of(torch.zeros(3))
    tensors["multi_modal_projector.linear_1.weight"] = LazyTensor.of(torch.zeros(32, 48))
    with pytest.raises(ModelError) as caught:
        complete(replace(whole, tensors=tensors), "here")
    message = str(caught.value)
    assert f"1 missing: {NORM}" in message
    assert "1 unexpected: model.image_newline" in message
    assert "1 of another shape: multi_modal_projector.linear_1.weight is 32 x 48, not 32 x 64" in message


def test_what_a_vit_never_reads_is_zeros_and_said(reading: Callable[..., Reading]) -> None:
    whole = reading("vit")
    kept = {name: tensor for name, tensor in whole.tensors.items() if "pooler" not in name}
    checked = complete(replace(whole, tensors=kept), "here")
    assert set(checked.report.added) == set(whole.tensors) - set(kept) != set()
    assert checked.report.used == len(kept)
    assert not any(checked.tensors[name].read().any() for name in checked.report.added)


def test_a_clip_has_nothing_to_spare(reading: Callable[..., Reading]) -> None:
    whole = reading()
    kept = {name: tensor for name, tensor in whole.tensors.items() if "post_layernorm" not in name}
    with pytest.raises(ModelError, match=r"2 missing: vision_tower.vision_model.post_layernorm"):
        complete(replace(whole, tensors=kept), "here")


def test_a_tied_head_needs_no_tensor(reading: Callable[..., Reading]) -> None:
    whole = reading(tie_word_embeddings=True)
    checked = complete(whole, "here")
    assert "language_model.lm_head.weight" not in checked.tensors
    assert NORM in checked.tensors


def test_shapes_of_7b_are_known_without_weights() -> None:
    from transformers import CLIPVisionConfig, LlavaConfig, MistralConfig

    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    shapes = model_shapes(LlavaConfig(text_config=MistralConfig(vocab_size=32064), vision_config=vision))
    assert shapes["language_model.model.embed_tokens.weight"] == (32064, 4096)
    assert shapes["language_model.model.layers.31.self_attn.k_proj.weight"] == (1024, 4096)
    assert shapes["vision_tower.vision_model.embeddings.position_embedding.weight"] == (577, 1024)
    assert len(shapes) == 3 + 32 * 9 + 4 + 24 * 16 + 7
