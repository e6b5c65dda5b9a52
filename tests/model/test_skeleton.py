"""A model known by config and processor alone: the shapes of the real one, and not one of its numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.errors import ModelError
from llavamed_cli.model.load import load_model
from llavamed_cli.model.skeleton import load_skeleton


def test_shapes_are_those_of_the_model_and_no_weight_is_needed(tiny_model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    found, real = load_skeleton(str(bare), device="cpu"), load_model(str(tiny_model), device="cpu", precision="fp32")
    models: tuple[Any, Any] = found.model, real.model
    bones, flesh = ({name: tensor.shape for name, tensor in model.named_parameters()} for model in models)
    assert bones == flesh
    assert {parameter.device.type for parameter in models[0].parameters()} == {"meta"}
    assert found.image_length == real.image_length
    assert found.chat.image_token_id == real.chat.image_token_id
    assert (found.device, found.choices["precision"].value) == ("cpu", "fp32")


def test_where_nothing_is_it_says_so(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelError):
            load_skeleton(str(place), device="cpu")
