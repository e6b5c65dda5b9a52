"""Opening a model folder: every tensor accounted for, or one error that names what is amiss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llavamed_cli.errors import ModelError, UsageError
from llavamed_cli.model.assemble import assemble
from llavamed_cli.model.load import load_model
from llavamed_cli.model.save import save_model

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def message(folder: Path | str) -> str:
    with pytest.raises(ModelError) as error:
        load_model(str(folder), device="cpu")
    assert error.value.where == str(folder)
    return error.value.what


def change_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def name_like(folder: Path, ending: str) -> str:
    return next(name for name in load_file(folder / "model.safetensors") if name.endswith(ending))


def test_a_missing_tensor_is_named(copied: Path) -> None:
    name = name_like(copied, "multi_modal_projector.linear_2.weight")
    change_weights(copied, lambda tensors: tensors.pop(name))
    assert "1 tensor(s) missing" in message(copied)
    assert "multi_modal_projector.linear_2.weight" in message(copied)


def test_an_extra_tensor_is_named(copied: Path) -> None:
    change_weights(copied, lambda tensors: tensors.update({"segtok_posembed": torch.zeros(2)}))
    assert "1 tensor(s) unexpected: segtok_posembed" in message(copied)


def test_a_tensor_of_another_shape_is_named(copied: Path) -> None:
    name = name_like(copied, "multi_modal_projector.linear_1.weight")
    change_weights(copied, lambda tensors: tensors.update({name: torch.zeros(3, 3)}))
    assert "1 tensor(s) mismatched" in message(copied)
    assert "multi_modal_projector.linear_1.weight" in message(copied)


def test_many_missing_tensors_are_counted_and_the_first_listed(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    rest = {name: tensor for name, tensor in tensors.items() if "vision" not in name}
    save_file(rest, copied / "model.safetensors", metadata={"format": "pt"})
    assert message(copied).startswith(f"{len(tensors) - len(rest)} tensor(s) missing: model.vision_tower.")
    assert message(copied).endswith("...")


@pytest.mark.parametrize("content", [b"", b"not safetensors", bytes(100)])
def test_weights_that_are_none(content: bytes, copied: Path) -> None:
    (copied / "model.safetensors").write_bytes(content)
    assert "weights cannot be loaded" in message(copied)


def test_no_weights(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    assert "weights cannot be loaded" in message(copied)


def test_no_tokenizer(copied: Path) -> None:
    for file in copied.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer" in message(copied)


def test_no_chat_template(copied: Path) -> None:
    (copied / "chat_template.jinja").unlink()
    assert "no chat template" in message(copied)


def test_no_processor(copied: Path) -> None:
    (copied / "processor_config.json").unlink()
    assert "processor" in message(copied)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "llama"}', '{"model_type": "frobnicate"}', "{}"])
def test_a_config_of_something_else(content: str, copied: Path) -> None:
    (copied / "config.json").write_text(content)
    message(copied)


def test_another_kind_of_model_is_named(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config["text_config"]))
    assert "found a llama model" in message(copied)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert "a folder without config.json" in message(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "found a file" in message(tmp_path / "file")
    assert message(tmp_path / "absent") == "no such model folder"
    assert message("absent") == "no such model folder"


def test_a_device_or_precision_that_is_not_there(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        load_model(str(tiny_model), device="tpu")
    with pytest.raises(UsageError, match="unknown precision 'int3'"):
        load_model(str(tiny_model), device="cpu", precision="int3")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no cuda device here"):
            load_model(str(tiny_model), device="cuda")


def test_every_choice_has_a_reason(tiny_model: Path) -> None:
    loaded = load_model(str(tiny_model), device="cpu")
    assert {name: choice.value for name, choice in loaded.choices.items()} == {
        "device": "cpu",
        "precision": "fp32",
        "attention": "sdpa",
    }
    assert all(choice.reason for choice in loaded.choices.values())


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_precision_asked_for_is_the_models(precision: str, dtype: torch.dtype, tiny_model: Path) -> None:
    model: Any = load_model(str(tiny_model), device="cpu", precision=precision).model
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_a_save_replaces_the_model_and_leaves_the_rest(copied: Path) -> None:
    (copied / "run.json").write_text("{}")
    (copied / ".model-killed").mkdir()
    (copied / ".model-killed" / "model.safetensors").write_text("half")
    made = assemble("tiny", "tiny", dtype=torch.float32, seed=9)
    save_model(made.model, made.processor, copied)
    assert (copied / "run.json").read_text() == "{}"
    assert not list(copied.glob(".model-*"))
    saved: Any = load_model(str(copied), device="cpu").model
    expected: Any = made.model
    assert torch.equal(saved.lm_head.weight, expected.lm_head.weight)


def test_a_save_that_fails_leaves_the_old_model(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = assemble("tiny", "tiny", dtype=torch.float32, seed=9)
    before = {file.name: file.read_bytes() for file in copied.iterdir()}
    processor: Any = made.processor
    monkeypatch.setattr(type(processor), "save_pretrained", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_model(made.model, made.processor, copied)
    assert {file.name: file.read_bytes() for file in copied.iterdir()} == before
