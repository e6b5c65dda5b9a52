"""Opening a model folder: every tensor accounted for, or one error that names what is amiss."""

from __future__ import annotations

import json
import re
import shutil
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llavamed_cli.errors import ModelError, UsageError
from llavamed_cli.model.load import LoadedModel, load_model, load_reading
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.reading import LoadReport, Reading
from llavamed_cli.model.published.tensor_files import TensorFiles
from llavamed_cli.model.quantise import has_bitsandbytes
from llavamed_cli.progress import Silent

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def message(folder: Path | str) -> str:
    with pytest.raises(ModelError) as error:
        load_model(str(folder), device="cpu")
    assert str(error.value.where).startswith(str(folder))
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
    assert "1 missing: multi_modal_projector.linear_2.weight" in message(copied)


def test_an_extra_tensor_is_named(copied: Path) -> None:
    change_weights(copied, lambda tensors: tensors.update({"segtok_posembed": torch.zeros(2)}))
    assert "1 unexpected: segtok_posembed" in message(copied)


def test_a_tensor_of_another_shape_is_named(copied: Path) -> None:
    name = name_like(copied, "multi_modal_projector.linear_1.weight")
    change_weights(copied, lambda tensors: tensors.update({name: torch.zeros(3, 3)}))
    assert "1 of another shape: multi_modal_projector.linear_1.weight is 3 x 3, not 128 x 192" in message(copied)


def test_many_missing_tensors_are_counted_and_the_first_listed(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    rest = {name: tensor for name, tensor in tensors.items() if "vision" not in name}
    save_file(rest, copied / "model.safetensors", metadata={"format": "pt"})
    expected = [name for name in tensors if "vision" in name and "pooler" not in name]
    assert f"; {len(expected)} missing: vision_tower." in message(copied)
    assert message(copied).endswith("...")


@pytest.mark.parametrize("content", [b"", b"not safetensors", bytes(100)])
def test_weights_that_are_none(content: bytes, copied: Path) -> None:
    (copied / "model.safetensors").write_bytes(content)
    assert "damaged or cut short" in message(copied)


def test_no_weights(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    assert message(copied) == "no weights (model.safetensors or pytorch_model.bin) lie there"


def test_no_tokenizer(copied: Path) -> None:
    for file in copied.glob("tokenizer*"):
        file.unlink()
    assert "tokenizer" in message(copied)


def test_no_image_settings(copied: Path) -> None:
    for name in ("preprocessor_config.json", "processor_config.json"):
        (copied / name).unlink()
    assert "no image settings" in message(copied)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "llama"}', '{"model_type": "frobnicate"}', "{}"])
def test_a_config_of_something_else(content: str, copied: Path) -> None:
    (copied / "config.json").write_text(content)
    message(copied)


def test_another_kind_of_model_is_named(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config["text_config"]))
    assert message(copied) == "a llama model is of another architecture than LLaVA, and is not read"


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert "without config.json" in message(tmp_path)
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


def test_what_is_trained_is_chosen_by_the_device_alone(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llavamed_cli.model.load.free_memory", lambda device: 1 / 0)
    loaded = load_model(str(tiny_model), device="cpu", for_training=True)
    assert loaded.choices["precision"].value == "fp32"
    assert loaded.plan is None
    with pytest.raises(UsageError, match="4bit weights can answer, not learn"):
        load_model(str(tiny_model), device="cpu", precision="4bit", for_training=True)


def test_the_plan_is_told_before_a_weight_is_read(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Listener(Silent):
        def note(self, message: str) -> None:
            told.append(message)

    monkeypatch.setattr(LazyTensor, "__getitem__", lambda tensor, place: 1 / 0)
    with pytest.raises(ModelError, match="weights cannot be loaded"):
        load_model(str(copied), device="cpu", progress=Listener())
    assert len(told) == 1
    assert re.match(r"precision: fp32 \([\d.]+ GB = weights .* cache of 1,344 tokens .* GB are free", told[0])


@pytest.fixture
def reading(tiny_model: Path) -> Reading:
    """The tiny model as a reader of published checkpoints would give it."""
    from transformers import GenerationConfig, LlavaConfig

    loaded = load_model(str(tiny_model), device="cpu", precision="fp32")
    return Reading(
        config=LlavaConfig.from_pretrained(tiny_model),
        processor=loaded.processor,
        generation_config=GenerationConfig(eos_token_id=[7], pad_token_id=3),
        tensors=dict(TensorFiles.open(tiny_model)),
        report=LoadReport("as written here", {}, used=1),
    )


def logits(loaded: LoadedModel) -> torch.Tensor:
    model: Any = loaded.model
    image = loaded.chat.image_token_id
    ids = torch.tensor([[image] * loaded.image_length + [11, 12, 13]])
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64).to(model.dtype)
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids, pixel_values=pixels).logits.float()
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16", "8bit", "4bit"])
def test_a_reading_loads_as_its_folder_does(precision: str, reading: Reading, tiny_model: Path) -> None:
    if not has_bitsandbytes() and precision.endswith("bit"):
        pytest.skip("bitsandbytes is not installed")
    loaded = load_reading(reading, "there", device="cpu", precision=precision)
    expected = load_model(str(tiny_model), device="cpu", precision=precision)
    model: Any = loaded.model
    held, there = model.state_dict(), expected.model.state_dict()
    assert held.keys() == there.keys()
    assert all(torch.equal(held[name], there[name]) for name in held)
    torch.testing.assert_close(logits(loaded), logits(expected), atol=1e-5, rtol=1e-5)
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight  # tied
    assert model.generation_config.eos_token_id == [7]
    assert loaded.report == reading.report
    assert {name: choice.value for name, choice in loaded.choices.items()} == {
        name: choice.value for name, choice in expected.choices.items()
    }


def changed(reading: Reading, tensors: Mapping[str, LazyTensor], without: str = "") -> Reading:
    return replace(reading, tensors={n: t for n, t in {**reading.tensors, **tensors}.items() if n != without})


def test_a_reading_that_is_not_whole_is_refused(reading: Reading) -> None:
    bias = LazyTensor.of(torch.zeros(128))
    first = "multi_modal_projector.linear_1.bias"

    def broken() -> torch.Tensor:
        raise ModelError("the shard is cut short", where="shard 2")

    for tensors, without, expected in (
        ({}, first, "1 tensor\\(s\\) missing: model.multi_modal_projector.linear_1.bias"),
        ({"nobody": bias}, "", "1 tensor\\(s\\) unexpected: nobody"),
        ({first: LazyTensor.of(torch.zeros(3))}, "", "1 tensor\\(s\\) mismatched"),
        ({first: replace(bias, read=broken)}, "", "shard"),
    ):
        with pytest.raises(ModelError, match=expected):
            load_reading(changed(reading, tensors, without), "there", device="cpu", precision="fp32")


@pytest.mark.skipif(not has_bitsandbytes(), reason="bitsandbytes is not installed")
def test_weights_are_quantised_one_after_the_other(reading: Reading) -> None:
    alive, most = [0], [0]

    def watched(tensor: LazyTensor) -> LazyTensor:
        def read() -> torch.Tensor:
            found = tensor.read()
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            weakref.finalize(found, lambda: alive.__setitem__(0, alive[0] - 1))
            return found

        return replace(tensor, read=read)

    projections = {name: watched(tensor) for name, tensor in reading.tensors.items() if "_proj." in name}
    assert len(projections) == 4 * 7
    load_reading(changed(reading, projections), "there", device="cpu", precision="4bit")
    assert 1 <= most[0] <= 2
