"""Kinds of checkpoints, told by config keys and tensor names; folder names are misleading on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.detect import Layout, detect

LINEAR = {"model.mm_projector.weight": torch.ones(4, 2), "model.mm_projector.bias": torch.ones(4)}
MLP = {f"model.mm_projector.{layer}.{part}": torch.ones(4, 4) for layer in (0, 2) for part in ("weight", "bias")}
TEXT = {
    "model.embed_tokens.weight": torch.ones(8, 4),
    "model.norm.weight": torch.ones(4),
    "lm_head.weight": torch.ones(8, 4),
}
DIFFERENCES = {**TEXT, "model.norm.weight": torch.tensor([0.01, -0.02, 0.0, 0.03])}
HUGGING_FACE = {
    "multi_modal_projector.linear_1.weight": torch.ones(4, 2),
    "language_model.model.norm.weight": torch.ones(4),
}
ORIGINAL = {"model_type": "llava", "mm_hidden_size": 2, "mm_vision_tower": "openai/clip"}
V15 = {**ORIGINAL, "model_type": "llava_mistral", "mm_projector_type": "mlp2x_gelu"}
PARTS = {"text_config": {}, "vision_config": {}}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def make(config: dict[str, Any] | None, tensors: dict[str, Any] | None, *, name: str = "llava-mistral") -> Path:
        made = tmp_path / name
        made.mkdir()
        if config is not None:
            (made / "config.json").write_text(json.dumps(config))
        if tensors is not None:
            save_file({key: value.clone() for key, value in tensors.items()}, made / "model.safetensors")
        return made

    return make


@pytest.mark.parametrize(
    ("config", "tensors", "layout"),
    [
        ({"model_type": "llava", **PARTS}, HUGGING_FACE, Layout.HUGGING_FACE),
        (V15, {**TEXT, **MLP}, Layout.V15),
        ({**V15, "model_type": "llava_llama"}, {**TEXT, **MLP}, Layout.V15),
        (ORIGINAL, {**TEXT, **LINEAR}, Layout.V1),
        ({"model_type": "llava"}, {**TEXT, **LINEAR}, Layout.V1),
        ({**ORIGINAL, "model_type": "llava_llama", "mm_projector_type": "linear"}, {**TEXT, **LINEAR}, Layout.V1),
        (ORIGINAL, {**DIFFERENCES, **LINEAR}, Layout.DELTA),
        ({"model_type": "clip"}, {"text_model.x": torch.ones(1)}, Layout.TOWER),
        ({"model_type": "clip_vision_model"}, {"vision_model.x": torch.ones(1)}, Layout.TOWER),
        ({"model_type": "siglip", **PARTS}, {"vision_model.x": torch.ones(1)}, Layout.TOWER),
        ({"model_type": "dinov2"}, {"encoder.x": torch.ones(1)}, Layout.TOWER),
        ({"model_type": "vit"}, {"encoder.x": torch.ones(1)}, Layout.TOWER),
        ({"model_cfg": {}}, {"visual.trunk.x": torch.ones(1)}, Layout.OPEN_CLIP),
        ({"model_type": "mistral", "architectures": ["MistralForCausalLM"]}, TEXT, Layout.LANGUAGE_MODEL),
    ],
)
def test_config_and_tensors_tell(
    folder: Callable[..., Path], config: dict[str, Any], tensors: dict[str, Any], layout: Layout
) -> None:
    assert detect(folder(config, tensors)) is layout


def test_files_tell(folder: Callable[..., Path], tmp_path: Path) -> None:
    projector = folder(ORIGINAL, None, name="p")
    torch.save(LINEAR, projector / "mm_projector.bin")
    adapter = folder(ORIGINAL, None, name="a")
    (adapter / "adapter_config.json").write_text("{}")
    small = folder(None, None, name="g")
    (small / "model.gguf").touch()
    trunk = folder(None, {"visual.trunk.x": torch.ones(1)}, name="o")
    (trunk / "open_clip_config.json").write_text("{}")
    assert [detect(place) for place in (projector, projector / "mm_projector.bin", adapter, small, trunk)] == [
        Layout.PROJECTOR,
        Layout.PROJECTOR,
        Layout.ADAPTER,
        Layout.GGUF,
        Layout.OPEN_CLIP,
    ]
    assert detect(small / "model.gguf") is Layout.GGUF


@pytest.mark.parametrize("kind", ["cabstract", "mlp3x_gelu", "mlp1x_gelu", "identity", "resampler", None, 2])
def test_an_unknown_projector_is_named(folder: Callable[..., Path], kind: Any) -> None:
    with pytest.raises(ModelError) as caught:
        detect(folder({**V15, "mm_projector_type": kind}, {**TEXT, **MLP}))
    assert f"mm_projector_type is {kind!r}; linear and mlp2x_gelu are read" in caught.value.what


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_aspect_ratio", "anyres"),
        ("image_aspect_ratio", "anyres_max_9"),
        ("mm_patch_merge_type", "spatial_unpad"),
    ],
)
def test_llava_16_is_another_architecture(folder: Callable[..., Path], key: str, value: str) -> None:
    with pytest.raises(ModelError, match=f"{key} is '{value}'.*LLaVA 1.6"):
        detect(folder({**V15, key: value}, {**TEXT, **MLP}))


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"model_type": "llava_next", **PARTS}, HUGGING_FACE, "a llava_next model is of another architecture"),
        ({"model_type": "bert"}, {"encoder.x": torch.ones(1)}, "a bert model is none that is read"),
        (V15, TEXT, "a mlp2x_gelu projector, but the weights hold none"),
        (V15, {**DIFFERENCES, **MLP}, "differences to another model"),
        (V15, None, "no weights"),
        (None, TEXT, "weights but no config.json"),
        (None, None, "without config.json and without weights"),
    ],
)
def test_what_is_refused(
    folder: Callable[..., Path], config: dict[str, Any] | None, tensors: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        detect(folder(config, tensors))


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        detect(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(ModelError, match="expected a model folder, found a file"):
        detect(tmp_path / "notes.txt")
    save_file(TEXT, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="found one of its files"):
        detect(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        detect(tmp_path)


@pytest.mark.parametrize(
    ("place", "layout"),
    [
        ("v15/llava-mistral-tiny-inside", Layout.V15),
        ("v15/llava-mistral-tiny-separate", Layout.V15),
        ("v15/tiny_clip", Layout.TOWER),
        ("v10/applied-llava", Layout.V1),
        ("v10/delta", Layout.DELTA),
        ("v10/base", Layout.LANGUAGE_MODEL),
        ("towers/pubmedclip_tiny", Layout.TOWER),
    ],
)
def test_checkpoints_of_the_reference(shared: Path, place: str, layout: Layout) -> None:
    assert detect(shared / "oracle" / place) is layout
