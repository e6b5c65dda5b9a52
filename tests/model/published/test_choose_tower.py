"""The checkpoint's own vision tower, the stock one, or another: which is taken, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published import named_tower as named
from llavamed_cli.model.published.choose_tower import OWN_LEFT_OUT, choose_tower
from llavamed_cli.model.published.inside_tower import INSIDE
from llavamed_cli.model.published.lazy_tensor import LazyTensor

STOCK_NAME = "openai/clip-vit-large-patch14"


@pytest.fixture(scope="module")
def clip(random_llava: Callable[..., Any]) -> Any:
    """A CLIP of OpenAI's kind: heads of 64 numbers."""
    return random_llava().model.vision_tower


@pytest.fixture
def stock(clip: Any, tmp_path: Path) -> Path:
    clip.save_pretrained(tmp_path / "stock")
    return tmp_path / "stock"


@pytest.fixture
def inside(clip: Any) -> dict[str, LazyTensor]:
    state = clip.state_dict()
    return {f"{INSIDE}vision_model.{name}": LazyTensor.of(tensor.clone()) for name, tensor in state.items()}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(named, "_cached", lambda name: None)
    monkeypatch.chdir(tmp_path)


def changed(tensors: dict[str, LazyTensor], name: str, share: float) -> dict[str, LazyTensor]:
    """One tensor's first number moved by `share` of the tensor's largest."""
    weight = tensors[name].read().clone()
    weight.view(-1)[0] += share * weight.abs().max()
    return {**tensors, name: LazyTensor.of(weight)}


def test_its_own_and_equal_to_the_stock_one(inside: dict[str, LazyTensor], stock: Path, tmp_path: Path) -> None:
    chosen = choose_tower("checkpoint", {"mm_vision_tower": "stock"}, inside, tmp_path / "model")
    assert chosen.choice.value == "checkpoint"
    assert chosen.notes == ("the checkpoint's own vision tower is the stock one (stock), number for number",)
    assert not chosen.ignored


def test_its_own_and_different(inside: dict[str, LazyTensor], stock: Path, tmp_path: Path) -> None:
    name = f"{INSIDE}vision_model.encoder.layers.1.mlp.fc1.weight"
    own = changed(inside, name, 0.25)
    chosen = choose_tower("checkpoint", {"mm_vision_tower": "stock"}, own, tmp_path / "model")
    assert "differs from the stock one (stock): by up to 0.25 " in chosen.notes[0]
    assert chosen.notes[0].endswith("vision_model.encoder.layers.1.mlp.fc1.weight")
    read = chosen.tower.tensors["vision_model.encoder.layers.1.mlp.fc1.weight"].read()
    assert torch.equal(read, own[name].read())


def test_rounding_to_the_checkpoints_format_is_no_difference(
    inside: dict[str, LazyTensor], stock: Path, tmp_path: Path
) -> None:
    half = {name: LazyTensor.of(tensor.read().bfloat16()) for name, tensor in inside.items()}
    chosen = choose_tower("checkpoint", {"mm_vision_tower": "stock"}, half, tmp_path / "model")
    assert "number for number" in chosen.notes[0]


def test_stock_asked_for(inside: dict[str, LazyTensor], stock: Path, tmp_path: Path, clip: Any) -> None:
    own = changed(inside, f"{INSIDE}vision_model.post_layernorm.bias", 0.5)
    chosen = choose_tower("stock", {"mm_vision_tower": "stock"}, own, tmp_path / "model")
    assert chosen.choice.value == "stock (stock)"
    assert chosen.ignored == {OWN_LEFT_OUT: tuple(own)}
    assert "differs" in chosen.notes[0]
    bias = chosen.tower.tensors["vision_model.post_layernorm.bias"].read()
    assert torch.equal(bias, clip.state_dict()["post_layernorm.bias"])


def test_a_checkpoint_without_one_takes_the_one_it_names(stock: Path, tmp_path: Path) -> None:
    chosen = choose_tower("checkpoint", {"mm_vision_tower": str(stock)}, {}, tmp_path / "elsewhere" / "model")
    assert (chosen.choice.value, chosen.notes) == (f"stock ({stock})", ())
    assert "holds none" in chosen.choice.reason


def test_another_folder(inside: dict[str, LazyTensor], stock: Path, tmp_path: Path) -> None:
    chosen = choose_tower(str(stock), {}, inside, tmp_path / "model")
    assert (chosen.choice.value, chosen.ignored) == (str(stock), {OWN_LEFT_OUT: tuple(inside)})


def test_settings_of_openais_clips_come_from_their_shapes(
    inside: dict[str, LazyTensor], tmp_path: Path, clip: Any
) -> None:
    chosen = choose_tower("checkpoint", {"mm_vision_tower": STOCK_NAME}, inside, tmp_path / "model")
    assert "could not be compared" in chosen.notes[0]
    config: Any = chosen.tower.config
    for key in (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "image_size",
        "patch_size",
    ):
        assert getattr(config, key) == getattr(clip.config, key), key
    assert (config.hidden_act, chosen.tower.size, chosen.tower.patch) == ("quick_gelu", 16, 8)


def test_shapes_of_the_published_tower_give_its_published_config() -> None:
    """openai/clip-vit-large-patch14-336: 24 layers, 16 heads, 336 pixels."""
    from transformers import CLIPVisionConfig

    from llavamed_cli.model.published.inside_tower import tower_inside
    from llavamed_cli.model.published.tower_tensors import tower_shapes

    settings = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    shapes = tower_shapes(CLIPVisionConfig(**settings, image_size=336, patch_size=14))
    never: Any = None
    tensors = {f"{INSIDE}vision_model.{name}": LazyTensor(s, torch.bfloat16, never) for name, s in shapes.items()}
    config: Any = tower_inside(tensors, f"{STOCK_NAME}-336", None, Path()).config
    assert {key: getattr(config, key) for key in settings} == settings
    assert (config.image_size, config.patch_size, config.hidden_act) == (336, 14, "quick_gelu")


def test_settings_of_other_towers_are_not_guessed(inside: dict[str, LazyTensor], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="laion/CLIP-ViT-H-14, is not on this machine"):
        choose_tower("checkpoint", {"mm_vision_tower": "laion/CLIP-ViT-H-14"}, inside, tmp_path / "model")


def test_a_stock_tower_that_is_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(name: str) -> Path:
        raise ModelError("the hub cannot be reached", where=name)

    monkeypatch.setattr(named.hub, "locate", unreachable)
    with pytest.raises(ModelError, match=f"names, {STOCK_NAME}, cannot be had: the hub cannot be reached"):
        choose_tower("stock", {"mm_vision_tower": STOCK_NAME}, {}, tmp_path / "model")


def test_a_config_that_names_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="names no mm_vision_tower"):
        choose_tower("checkpoint", {}, {}, tmp_path / "model")


def test_tensors_missing_from_its_own(inside: dict[str, LazyTensor], stock: Path, tmp_path: Path) -> None:
    del inside[f"{INSIDE}vision_model.pre_layrnorm.bias"]
    with pytest.raises(ModelError, match="1 missing"):
        choose_tower("checkpoint", {"mm_vision_tower": "stock"}, inside, tmp_path / "model")
