from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.towers import read_tower
from llavamed_cli.model.vision_tower import build_tower

SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 24,
    "patch_size": 8,
}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}

SAVED: dict[str, Callable[[], Any]] = {
    "CLIP": lambda: CLIPVisionModel(CLIPVisionConfig(**SIZE)),
    "CLIP with its text half": lambda: CLIPModel(CLIPConfig(text_config=TEXT, vision_config=SIZE)),
    "SigLIP": lambda: SiglipVisionModel(SiglipVisionConfig(**SIZE)),
    "SigLIP with its text half": lambda: SiglipModel(SiglipConfig(text_config=TEXT, vision_config=SIZE)),
    "SigLIP without a head": lambda: SiglipVisionModel(SiglipVisionConfig(**SIZE, vision_use_head=False)),
    "ViT": lambda: ViTModel(ViTConfig(**SIZE)),
    "ViT without a pooler": lambda: ViTModel(ViTConfig(**SIZE), add_pooling_layer=False),
    "ViT that classifies": lambda: ViTForImageClassification(ViTConfig(**SIZE)),
    "DINOv2": lambda: Dinov2Model(Dinov2Config(**SIZE)),
}


def save(name: str, folder: Path) -> Any:
    torch.manual_seed(0)
    model = SAVED[name]().eval()
    model.save_pretrained(folder)
    return model


def vision_half(model: Any) -> Any:
    return next((getattr(model, part) for part in ("vision_model", "vit") if hasattr(model, part)), model)


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.get("vision_config", config).update(values)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_tower_is_read_whole(name: str, tmp_path: Path) -> None:
    saved = save(name, tmp_path)
    reading = read_tower(tmp_path)
    assert reading.kind == name.split()[0]
    assert (reading.patch, reading.class_token) == (8, "SigLIP" not in name)
    assert reading.size == (224 if name == "DINOv2" else 24)
    pixels = torch.randn(2, 3, 24, 24)
    built = build_tower(reading, torch.float32, name)
    with torch.no_grad():
        found = built(pixels, output_hidden_states=True)
        expected = vision_half(saved)(pixels, output_hidden_states=True)
    assert all(map(torch.equal, found.hidden_states, expected.hidden_states))
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    stored = len(load_file(tmp_path / "model.safetensors"))
    assert len(reading.tensors) + sum(map(len, reading.ignored.values())) == stored + len(reading.added)
    assert all(not reading.tensors[added].read().any() for added in reading.added)


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
@pytest.mark.parametrize("prefix", ["vision_model.", ""])
def test_names_of_transformers_4_and_5(kind: str, prefix: str, tmp_path: Path) -> None:
    """4 saved `vision_model.` before each name and position numbers as a tensor; 5 does neither."""
    saved = save("CLIP", tmp_path)
    tensors = {prefix + name.removeprefix("vision_model."): tensor for name, tensor in saved.state_dict().items()}
    (tmp_path / "model.safetensors").unlink()
    if prefix:
        tensors[f"{prefix}embeddings.position_ids"] = torch.arange(10)[None]
    if kind == "bin":
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    else:
        save_file(tensors, tmp_path / "model.safetensors")
    reading = read_tower(tmp_path)
    assert all(name.startswith("vision_model.") for name in reading.tensors)
    for name, tensor in tensors.items():
        if "position_ids" not in name:
            assert torch.equal(reading.tensors["vision_model." + name.removeprefix(prefix)].read(), tensor)
    assert sum(map(len, reading.ignored.values())) == bool(prefix)


@pytest.mark.parametrize("name", ["ViT", "DINOv2"])
def test_names_held_in_memory_are_read_as_those_on_disk(name: str, tmp_path: Path) -> None:
    saved = save(name, tmp_path)
    on_disk = read_tower(tmp_path)
    shapes = {tensor: on_disk.tensors[tensor].shape for tensor in on_disk.tensors}
    save_file(saved.state_dict(), tmp_path / "model.safetensors")
    in_memory = read_tower(tmp_path)
    assert {tensor: in_memory.tensors[tensor].shape for tensor in in_memory.tensors} == shapes


def test_a_whole_clip_gives_the_features_of_the_reference(shared: Path) -> None:
    """PubMedCLIP's layout, through LLaVA-Med v1.0's extractor."""
    towers = shared / "oracle" / "towers"
    expected = load_file(towers / "outputs.safetensors")
    reading = read_tower(towers / "pubmedclip_tiny")
    model = build_tower(reading, torch.float32, "")
    with torch.no_grad():
        states = model(expected["biomed.pixel_values"], output_hidden_states=True).hidden_states
    for layer in (-1, -2):
        expect = expected[f"pubmed.features.select{layer}"]
        assert torch.allclose(states[layer][:, 1:], expect, rtol=0, atol=1e-5)
    assert sum(len(names) for names in reading.ignored.values()) == 25


def test_the_reference_checkpoints_towers_open(shared: Path) -> None:
    for folder in ("v10/tiny_clip", "v15/tiny_clip"):
        assert read_tower(shared / "oracle" / folder).size == 32


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_a_folders_own_image_settings_go_first(file: str, tmp_path: Path) -> None:
    save("DINOv2", tmp_path)
    settings = {"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 40}, "image_mean": [0.1, 0.2, 0.3]}
    content = settings if file.startswith("pre") else {"image_processor": settings}
    (tmp_path / file).write_text(json.dumps(content))
    reading = read_tower(tmp_path)
    assert (reading.size, reading.mean, reading.std) == (32, (0.1, 0.2, 0.3), (0.229, 0.224, 0.225))
    assert reading.any_size


def test_a_tower_of_one_size_takes_its_own(tmp_path: Path) -> None:
    """Whatever its image settings say: another size would not fit its position table."""
    save("CLIP", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"crop_size": 40}')
    assert read_tower(tmp_path).size == 24


def test_weights_that_do_not_fit_the_config_are_listed(tmp_path: Path) -> None:
    save("CLIP", tmp_path)
    change_config(tmp_path, num_hidden_layers=4, image_size=32)
    with pytest.raises(ModelError) as refused:
        read_tower(tmp_path)
    said = str(refused.value)
    assert "16 missing: encoder.layers.3.self_attn.k_proj.weight" in said
    assert "embeddings.position_embedding.weight is 10 x 32, not 17 x 32" in said
    change_config(tmp_path, num_hidden_layers=2, image_size=24)
    with pytest.raises(ModelError, match=r"16 unexpected: encoder\.layers\.2"):
        read_tower(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("CLIP", {"model_type": "llama"}, "a llama model is no vision tower"),
        ("CLIP", {"model_type": "clip_text_model"}, "a clip_text_model model is no vision tower"),
        ("CLIP", {"model_type": "resnet"}, "a resnet model is no vision tower"),
        ("CLIP", {"model_type": None}, "config names no model_type"),
        ("CLIP", {"hidden_act": "swooosh"}, "activation 'swooosh' is not known"),
        ("CLIP", {"hidden_size": "wide"}, "the config makes no sense"),
        ("CLIP", {"num_channels": 1}, "1 channels, not of 3"),
        ("CLIP", {"patch_size": 0}, "patch_size is 0"),
        ("CLIP", {"num_attention_heads": 5}, "the config makes no sense"),
        ("ViT", {"image_size": [24, 48]}, r"image_size is \(?\[?24, 48"),
    ],
)
def test_a_config_of_something_else_is_refused(name: str, change: dict[str, Any], said: str, tmp_path: Path) -> None:
    save(name, tmp_path)
    change_config(tmp_path, **change)
    with pytest.raises(ModelError, match=said):
        read_tower(tmp_path)


def test_folders_that_hold_no_tower_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected the folder"):
        read_tower(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_tower(tmp_path)
    save("CLIP", tmp_path / "clip")
    broken = shutil.copytree(tmp_path / "clip", tmp_path / "broken")
    (broken / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        read_tower(broken)
    (broken / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="expected settings by name"):
        read_tower(broken)
    without = shutil.copytree(tmp_path / "clip", tmp_path / "without")
    (without / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        read_tower(without)


def test_a_text_half_alone_is_no_tower(tmp_path: Path) -> None:
    saved = save("CLIP with its text half", tmp_path)
    text = {name: tensor for name, tensor in saved.state_dict().items() if name.startswith("text_")}
    save_file(text, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="only of a text model"):
        read_tower(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"image_mean": [0.5, 0.5]}, "expected three numbers"),
        ({"image_std": 0.5}, "expected three numbers"),
        ({"rescale_factor": 1 / 127.5}, "not by 1/255"),
    ],
)
def test_image_settings_that_cannot_be_followed_are_refused(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    save("CLIP", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=said):
        read_tower(tmp_path)


def test_nothing_is_read_before_it_is_wanted(tmp_path: Path) -> None:
    """Only shapes are: a file cut behind its header is still described, and refused when it is built."""
    save("CLIP", tmp_path)
    reading = read_tower(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        build_tower(reading, torch.float32, str(tmp_path))
