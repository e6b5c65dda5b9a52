from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

from llavamed_cli.errors import ModelError
from llavamed_cli.model.vision_tower import load_vision_tower

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24, "patch_size": 8}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    CLIPVisionModel(CLIPVisionConfig(**SIZE, intermediate_size=32)).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def dinov2(tmp_path: Path) -> Path:
    Dinov2Model(Dinov2Config(**SIZE)).save_pretrained(tmp_path)
    return tmp_path


def test_published_folders_are_loaded(biomed_clip: Path, pubmed_clip: Path) -> None:
    for folder, patches, width in ((biomed_clip, 9, 32), (pubmed_clip, 16, 32)):
        tower = load_vision_tower(str(folder), dtype=torch.float32, seed=0)
        size = tower.reading.size
        with torch.no_grad():
            states = tower.model(torch.zeros(1, 3, size, size), output_hidden_states=True).hidden_states
        assert states[tower.reading.feature_layer].shape == (1, patches + 1, width)
        assert not tower.model.training
        assert not tower.reading.tensors, "the file would be held open for as long as the tower lives"


def test_the_number_format_is_the_one_asked_for(clip: Path) -> None:
    tower = load_vision_tower(str(clip), dtype=torch.bfloat16, seed=0)
    assert {parameter.dtype for parameter in tower.model.parameters()} == {torch.bfloat16}


def test_a_tower_from_nothing_is_the_same_for_a_seed() -> None:
    one, same, other = (load_vision_tower("tiny", dtype=torch.float32, seed=seed) for seed in (0, 0, 1))
    weights = [
        tower.model.state_dict()["embeddings.patch_embeddings.projection.weight"] for tower in (one, same, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert (one.reading.size, one.reading.patch, one.reading.class_token) == (64, 8, True)


def test_pictures_of_another_size_where_the_tower_takes_them(dinov2: Path) -> None:
    tower = load_vision_tower(str(dinov2), dtype=torch.float32, seed=0, image_size=40)
    assert tower.reading.size == 40
    with torch.no_grad():
        states = tower.model(torch.zeros(1, 3, 40, 40), output_hidden_states=True).hidden_states
    assert states[-2].shape == (1, 26, 32)
    with pytest.raises(ModelError, match="41 pixels are no whole number of 8-pixel patches"):
        load_vision_tower(str(dinov2), dtype=torch.float32, seed=0, image_size=41)


def test_pictures_of_another_size_where_it_does_not(clip: Path) -> None:
    assert load_vision_tower(str(clip), dtype=torch.float32, seed=0, image_size=24).reading.size == 24
    for where in (str(clip), "tiny"):
        with pytest.raises(ModelError, match="pixels, not 32"):
            load_vision_tower(where, dtype=torch.float32, seed=0, image_size=32)


def test_what_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such"):
        load_vision_tower(str(tmp_path / "absent"), dtype=torch.float32, seed=0)
    (tmp_path / "notes.txt").write_text("a picture book")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_vision_tower(str(tmp_path), dtype=torch.float32, seed=0)
    with pytest.raises(ModelError, match="expected the folder of a vision tower"):
        load_vision_tower(str(tmp_path / "notes.txt"), dtype=torch.float32, seed=0)
