"""The linear projector inside HF's two layers: exact where the widths allow it, as near as said where they do not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.linear_projector import SHIFT, linear_projector


def plain_layer(text: int, vision: int, seed: int = 0) -> torch.nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(vision, text)
    with torch.no_grad():
        layer.weight.normal_(std=vision**-0.5, generator=generator)
        layer.bias.normal_(generator=generator)
    return layer


def as_hf(layer: torch.nn.Linear, dtype: torch.dtype = torch.float32) -> LlavaMultiModalProjector:
    """HF's own module, with the tensors that `linear_projector` makes of `layer`."""
    text, vision = layer.weight.shape
    config = LlavaConfig(
        text_config=LlamaConfig(hidden_size=text, num_attention_heads=1),
        vision_config=CLIPVisionConfig(hidden_size=vision, num_attention_heads=1),
    )
    module = LlavaMultiModalProjector(config)
    made = linear_projector(LazyTensor.of(layer.weight.data), LazyTensor.of(layer.bias.data))
    read = {name: lazy.read() for name, lazy in made.tensors.items()}
    assert all(read[name].shape == lazy.shape and read[name].dtype == lazy.dtype for name, lazy in made.tensors.items())
    module.load_state_dict({name.removeprefix("multi_modal_projector."): tensor for name, tensor in read.items()})
    return module.to(dtype)


@settings(max_examples=40)
@given(
    vision=st.integers(1, 24),
    more=st.integers(0, 4),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1 << 20),
)
def test_the_pair_is_the_plain_layer_for_any_weights_features_and_widths(
    vision: int, more: int, scale: float, seed: int
) -> None:
    layer = plain_layer(2 * (vision + more), vision, seed)
    features = torch.randn(5, vision, generator=torch.Generator().manual_seed(seed + 1)) * scale
    with torch.no_grad():
        error = (as_hf(layer)(features) - layer(features)).abs().max()
    assert error <= 2e-6 * max(1.0, scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_its_error_is_the_plain_layers_own_in_every_number_format(dtype: torch.dtype) -> None:
    layer = plain_layer(512, 128).double()
    features = torch.randn(64, 128, generator=torch.Generator().manual_seed(1)) * 3
    with torch.no_grad():
        rounded = torch.nn.Linear(128, 512, dtype=dtype)
        rounded.load_state_dict(layer.state_dict())
        truth = torch.nn.functional.linear(
            features.to(dtype).double(), rounded.weight.double(), rounded.bias.double()
        )  # of the rounded numbers, so that only the arithmetic differs
        plain = (rounded(features.to(dtype)).double() - truth).abs()
        ours = (as_hf(layer.float(), dtype)(features.to(dtype)).double() - truth).abs()
    assert ours.mean() <= 2 * plain.mean() + 1e-7
    assert ours.max() <= 3 * plain.max()


def test_a_half_precision_file_stays_one() -> None:
    layer = plain_layer(8, 3).half()
    made = linear_projector(LazyTensor.of(layer.weight.data), LazyTensor.of(layer.bias.data))
    assert {lazy.dtype for lazy in made.tensors.values()} == {torch.float16}
    assert made.note is None


def test_a_narrow_text_gets_the_shifted_pair_and_is_told() -> None:
    layer = plain_layer(64, 48)
    features = torch.randn(200, 48, generator=torch.Generator().manual_seed(2)) * 5
    assert features.min() < -15
    with torch.no_grad():
        error = (as_hf(layer)(features) - layer(features)).abs().max()
    assert error < 4e-5
    made = linear_projector(LazyTensor.of(layer.weight.data.half()), LazyTensor.of(layer.bias.data.half()))
    assert made.note is not None
    assert "fp32" in made.note
    assert f"{6 - SHIFT:g}" in made.note
    assert {lazy.dtype for lazy in made.tensors.values()} == {torch.float32}


def test_a_text_narrower_than_the_tower_is_refused() -> None:
    layer = plain_layer(8, 9)
    with pytest.raises(ModelError, match="9 features to a text width of 8"):
        linear_projector(LazyTensor.of(layer.weight.data), LazyTensor.of(layer.bias.data))


def test_a_bias_of_another_width_is_refused() -> None:
    with pytest.raises(ModelError, match="do not fit"):
        linear_projector(LazyTensor.of(torch.zeros(8, 3)), LazyTensor.of(torch.zeros(3)))
