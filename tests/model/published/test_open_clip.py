from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.towers import read_tower
from llavamed_cli.model.vision_tower import build_tower, load_vision_tower

BIN, CONFIG = "open_clip_pytorch_model.bin", "open_clip_config.json"
Changed = Callable[..., Path]


def states_of(folder: Path, pixels: torch.Tensor) -> list[torch.Tensor]:
    model = build_tower(read_tower(folder), torch.float32, str(folder))
    with torch.no_grad():
        states: list[torch.Tensor] = list(model(pixels, output_hidden_states=True).hidden_states)
    return states


@pytest.fixture
def changed(biomed_clip: Path, tmp_path: Path) -> Changed:
    """A copy whose tensors and config were changed by functions of one argument."""

    def change(
        tensors: Callable[[dict[str, torch.Tensor]], None] | None = None,
        config: Callable[[dict[str, Any]], None] | None = None,
    ) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(biomed_clip, folder)
        if tensors:
            stored = torch.load(folder / BIN, weights_only=True)
            tensors(stored)
            torch.save(stored, folder / BIN)
        if config:
            settings = json.loads((folder / CONFIG).read_text())
            config(settings)
            (folder / CONFIG).write_text(json.dumps(settings))
        return folder

    return change


def blocks_by_hand(tensors: dict[str, torch.Tensor], pixels: torch.Tensor, heads: int) -> list[torch.Tensor]:
    """timm's plain ViT written down from its definition: what every block gives, without the final norm."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    patch = tensors["patch_embed.proj.weight"].shape[-1]
    cut = functional.unfold(pixels, patch, stride=patch).transpose(1, 2)  # [n, patches, 3 x patch x patch]
    x = cut @ tensors["patch_embed.proj.weight"].flatten(1).T + tensors["patch_embed.proj.bias"]
    x = torch.cat([tensors["cls_token"].expand(len(x), -1, -1), x], 1) + tensors["pos_embed"]
    outputs = []
    for block in range(sum(name.endswith("norm1.weight") for name in tensors)):
        at = f"blocks.{block}"
        n, length, width = x.shape
        qkv = linear(f"{at}.attn.qkv", norm(f"{at}.norm1", x)).reshape(n, length, 3, heads, width // heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [n, heads, length, width / heads]
        weights = (query @ key.transpose(-1, -2) / math.sqrt(width // heads)).softmax(-1)
        x = x + linear(f"{at}.attn.proj", (weights @ value).transpose(1, 2).flatten(2))
        inner = linear(f"{at}.mlp.fc1", norm(f"{at}.norm2", x))
        x = x + linear(f"{at}.mlp.fc2", inner * (1 + torch.erf(inner / math.sqrt(2))) / 2)
        outputs.append(x)
    return outputs


def test_biomed_clip_gives_the_features_of_the_reference(shared: Path, tmp_path: Path) -> None:
    """LLaVA-Med v1.0's extractor, run on a timm ViT in open_clip's naming."""
    towers = shared / "oracle" / "towers"
    shutil.copyfile(towers / "biomedclip_tiny_config.json", tmp_path / CONFIG)
    shutil.copyfile(towers / "biomedclip_tiny_open_clip_pytorch_model.bin", tmp_path / BIN)
    expected = load_file(towers / "outputs.safetensors")
    reading = read_tower(tmp_path)
    assert (reading.size, reading.patch, reading.class_token, reading.feature_layer) == (48, 16, True, -2)
    states = states_of(tmp_path, expected["biomed.pixel_values"])
    for layer in (-1, -2, -3):
        features = states[layer][:, 1:]
        assert torch.allclose(features, expected[f"biomed.features.select{layer}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [BIN, "open_clip_model.safetensors"])
def test_every_block_is_timms(biomed_clip: Path, tmp_path: Path, name: str) -> None:
    stored = torch.load(biomed_clip / BIN, weights_only=True)
    for faint in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"):
        stored[f"visual.trunk.{faint}"] *= 1e-3  # so that the norms' epsilon shows
    shutil.copyfile(biomed_clip / CONFIG, tmp_path / CONFIG)
    torch.save(stored, tmp_path / name) if name == BIN else save_file(stored, tmp_path / name)
    prefix = "visual.trunk."
    trunk = {name.removeprefix(prefix): tensor.double() for name, tensor in stored.items() if name.startswith(prefix)}
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    expected = blocks_by_hand(trunk, pixels.double(), heads=4)
    states = states_of(tmp_path, pixels)
    assert len(states) == len(expected) + 1
    for found, block in zip(states[1:], expected, strict=True):
        assert torch.allclose(found.double(), block, rtol=1e-5, atol=2e-5)


def test_pictures_are_normalised_as_the_config_says_or_as_open_clip_does(biomed_clip: Path, changed: Changed) -> None:
    openai = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    reading = read_tower(biomed_clip)
    assert (reading.mean, reading.std) == openai
    other = changed(config=lambda settings: settings["preprocess_cfg"].update(mean=[0.5, 0.25, 0.125]))
    assert read_tower(other).mean == (0.5, 0.25, 0.125)
    shutil.rmtree(other)
    reading = read_tower(changed(config=lambda settings: settings.pop("preprocess_cfg")))
    assert (reading.mean, reading.std) == openai


def test_what_is_left_out_and_what_is_added_is_told(biomed_clip: Path) -> None:
    reading = read_tower(biomed_clip)
    stored = torch.load(biomed_clip / BIN, weights_only=True)
    left_out = [name for names in reading.ignored.values() for name in names]
    kept = [name for name in stored if name.startswith("visual.trunk.")]
    assert sorted(left_out) == sorted(set(stored) - set(kept))
    assert set(reading.added) == {"pooler.dense.weight", "pooler.dense.bias"}
    # three matrices where one was, with their biases, in each of three blocks
    assert len(reading.tensors) == len(kept) + 4 * 3 + len(reading.added)


@pytest.mark.parametrize("quick", [True, False])
def test_a_vit_in_openais_naming_is_a_clip(quick: bool, tmp_path: Path) -> None:
    """Against transformers' own CLIP, whose tensors are put under open_clip's names."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPVisionConfig(**sizes, image_size=32, patch_size=8, hidden_act="quick_gelu" if quick else "gelu")
    model = CLIPVisionModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    stored = in_openais_naming(model.state_dict())
    stored |= {"visual.proj": torch.zeros(32, 16), "logit_scale": torch.zeros(()), "ln_final.bias": torch.zeros(4)}
    save_file(stored, tmp_path / "open_clip_model.safetensors")
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "mlp_ratio": 2.0, "patch_size": 8}
    settings = {"model_cfg": {"embed_dim": 16, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": {}}}
    (tmp_path / CONFIG).write_text(json.dumps(settings))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(pixels, output_hidden_states=True).hidden_states
    for found, state in zip(states_of(tmp_path, pixels), expected, strict=True):
        assert torch.equal(found, state)


def in_openais_naming(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "pre_layrnorm": "ln_pre",
        "post_layernorm": "ln_post",
        "encoder.layers": "transformer.resblocks",
        "layer_norm": "ln_",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        for part in ("weight", "bias"):
            if name.endswith(f"self_attn.q_proj.{part}"):
                joined = [tensors[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
                layer = name.split(".")[2]
                found[f"visual.transformer.resblocks.{layer}.attn.in_proj_{part}"] = torch.cat(joined)
        if not any(f"self_attn.{which}_proj" in name for which in "qkv"):
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
            found[f"visual.{name}"] = tensor
    return found


def test_tensors_that_are_missing_left_over_or_of_another_shape_are_listed(changed: Changed) -> None:
    def spoil(stored: dict[str, torch.Tensor]) -> None:
        del stored["visual.trunk.blocks.1.norm2.bias"]
        stored["visual.trunk.norm_pre.weight"] = torch.ones(32)
        stored["visual.trunk.pos_embed"] = torch.zeros(1, 5, 32)

    with pytest.raises(ModelError) as refused:
        read_tower(changed(spoil))
    said = str(refused.value)
    assert "1 missing: encoder.layer.1.layernorm_after.bias" in said
    assert "1 unexpected: visual.trunk.norm_pre.weight" in said
    assert "embeddings.position_embeddings is 1 x 5 x 32, not 1 x 10 x 32" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"timm_model_name": "resnet50"}, "timm's resnet50; of timm, plain ViTs"),
        ({"timm_model_name": "vit_base_patch16_siglip_224"}, "vit_base_patch16_siglip_224"),
        ({"attentional_pool": True}, "changed by attentional_pool"),
        ({"timm_overrides": {"embed_dim": 32, "qk_norm": True}}, "changed by qk_norm"),
        ({"timm_overrides": {"embed_dim": "wide"}}, "vision_cfg makes no sense"),
        ({"timm_overrides": {"embed_dim": 32, "depth": 3, "num_heads": 4, "img_size": [48, 64]}}, "expected a square"),
    ],
)
def test_another_kind_of_tower_is_refused_by_name(change: dict[str, Any], said: str, changed: Changed) -> None:
    with pytest.raises(ModelError, match=said):
        read_tower(changed(config=lambda settings: settings["model_cfg"]["vision_cfg"].update(change)))


@pytest.mark.parametrize("name", ["visual.layer1.0.conv1.weight", "visual.trunk.layer1.0.conv1.weight"])
def test_a_convolutional_network_is_refused(name: str, changed: Changed) -> None:
    with pytest.raises(ModelError, match="convolutional network"):
        read_tower(changed(lambda stored: stored.update({name: torch.zeros(1)})))


def test_a_config_that_lacks_its_parts_is_refused(changed: Changed, biomed_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected model_cfg with a vision_cfg"):
        read_tower(changed(config=lambda settings: settings["model_cfg"].pop("vision_cfg")))
    shutil.copyfile(biomed_clip / BIN, tmp_path / BIN)
    with pytest.raises(ModelError, match=r"no config\.json .* and no open_clip_config\.json"):
        read_tower(tmp_path)


def test_against_open_clip_itself(tmp_path: Path) -> None:
    """Where open_clip and timm are installed: BiomedCLIP's own trunk, at the size timm has it."""
    pytest.importorskip("timm")
    model_of = pytest.importorskip("open_clip.timm_model").TimmModel
    torch.manual_seed(0)
    made = model_of("vit_tiny_patch16_224", 16, pool="", proj="linear").eval()
    torch.save({f"visual.{name}": tensor for name, tensor in made.state_dict().items()}, tmp_path / BIN)
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": {"embed_dim": 16, "vision_cfg": vision}}))
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = made.trunk.forward_intermediates(
            pixels, indices=3, norm=False, output_fmt="NLC", intermediates_only=True
        )
    tower = load_vision_tower(str(tmp_path), dtype=torch.float32, seed=0)
    with torch.no_grad():
        states = tower.model(pixels, output_hidden_states=True).hidden_states
    for layer in (-1, -2, -3):
        assert torch.allclose(states[layer][:, 1:], expected[layer], rtol=0, atol=1e-5)
