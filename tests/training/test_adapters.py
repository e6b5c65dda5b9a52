"""Low-rank additions: where they stand, that plain peft opens them, and what they say once they are folded in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.quantise import has_bitsandbytes
from llavamed_cli.model.save import save_model
from llavamed_cli.training.adapters import add_adapters, plain_linear, save_adapters
from llavamed_cli.training.parts import count, merge_parts, prepare_parts, trained_parameters
from llavamed_cli.training.recipe import Recipe

Open = Callable[[], LoadedModel]
BOTH = ("projector", "lm")
WITH_BITSANDBYTES = pytest.mark.skipif(not has_bitsandbytes(), reason="bitsandbytes is not installed")


def jolt(model: Any, size: float = 0.05) -> None:
    """Move all that learns, as training would: a low-rank addition starts as nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in trained_parameters(model).values():
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        parameter.data += size * noise


def inputs(model: Any) -> dict[str, Any]:
    ids = [model.config.image_token_id] * 64 + list(range(5, 30))
    return {"input_ids": torch.tensor([ids]), "pixel_values": torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)}


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(**inputs(model)).logits
    return found


def test_they_stand_beside_every_linear_layer_of_the_language_model(open_tiny: Open) -> None:
    model: Any = prepare_parts(open_tiny().model, Recipe(train=BOTH, lora_rank=4), seed=0)
    learning = trained_parameters(model)
    low = [name for name in learning if "lora_" in name]
    assert len(low) == 4 * 7 * 2  # layers x (q, k, v, o, gate, up, down) x (A, B)
    assert all("language_model" in name for name in low)
    assert {name for name in learning if "lora_" not in name} == {
        f"model.multi_modal_projector.linear_{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")
    }
    width, inner = 128, 384
    shapes = 4 * (width + width) * 4 + 2 * 4 * (width + inner) + 4 * (inner + width)
    projector = (model.config.vision_config.hidden_size + 1) * width + (width + 1) * width
    assert count(learning) == 4 * shapes + projector


def test_a_tower_with_layers_of_the_same_names_has_none(open_counted: Open) -> None:
    """CLIP's attention has a q_proj too."""
    model: Any = open_counted().model
    assert any("vision_tower" in name and name.endswith("q_proj.weight") for name in model.state_dict())
    add_adapters(model, Recipe(train=("lm",), lora_rank=2), seed=0)
    assert all("language_model" in name for name in model.state_dict() if "lora_" in name)


def test_the_seed_decides_where_they_start(open_tiny: Open) -> None:
    def start(seed: int) -> torch.Tensor:
        model = prepare_parts(open_tiny().model, Recipe(train=BOTH, lora_rank=2), seed=seed)
        return torch.cat([one.detach().flatten() for name, one in trained_parameters(model).items() if "_A" in name])

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))


def test_folded_in_they_say_what_they_said_beside(open_tiny: Open) -> None:
    loaded = open_tiny()
    plain = set(loaded.model.state_dict())
    untrained = logits(loaded.model)
    prepare_parts(loaded.model, Recipe(train=BOTH, lora_rank=4, lora_dropout=0.5), seed=0)
    jolt(loaded.model)
    beside = logits(loaded.model)
    merge_parts(loaded.model)
    folded = logits(loaded.model)
    assert not torch.allclose(untrained, folded, atol=1e-1)
    torch.testing.assert_close(folded, beside, atol=1e-4, rtol=1e-5)
    assert set(loaded.model.state_dict()) == plain


def test_a_sum_is_rounded_once(tiny_model: Path) -> None:
    loaded: Any = load_model(str(tiny_model), device="cpu", precision="bf16")
    prepare_parts(loaded.model, Recipe(train=("lm",), lora_rank=4, lora_alpha=6), seed=0)
    jolt(loaded.model)
    layer = loaded.model.model.language_model.layers[1].mlp.up_proj
    low = layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double() * (6 / 4)
    expected = (layer.base_layer.weight.double() + low).to(torch.bfloat16)
    folded = plain_linear(layer, torch.float32)
    assert folded is not None
    assert folded.weight.dtype == torch.bfloat16
    assert (folded.weight != expected).float().mean() < 1e-3  # where a sum in fp32 lies on the border of two


OPENED_ALONE = """
import sys
sys.modules["llavamed_cli"] = None  # an import of it fails
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText
base, asked, *folders = sys.argv[1:]
for folder in folders:
    model = AutoModelForImageTextToText.from_pretrained(base)
    model = PeftModel.from_pretrained(model, f"{folder}/adapter").eval()
    with torch.no_grad():
        torch.save(model(**torch.load(asked)).logits, f"{folder}/answer.pt")
        model.merge_and_unload().save_pretrained(f"{folder}/merged")
"""


def test_plain_peft_opens_them(open_tiny: Open, tiny_model: Path, tmp_path: Path) -> None:
    """With the projector, without, and with the word table (tied to the head) and what learns of the tower; and plain
    peft folds them in to what we fold them in to."""
    models: dict[Path, Any] = {}
    for number, train in enumerate([BOTH, ("lm",), (*BOTH, "embeddings", "vision_tower")]):
        folder = tmp_path / str(number)
        model = prepare_parts(open_tiny().model, Recipe(train=train, lora_rank=4, lora_alpha=6), seed=0)
        jolt(model)
        save_adapters(model, folder / "adapter", base=str(tiny_model))
        models[folder] = model
    torch.save(inputs(model), tmp_path / "asked.pt")
    done = subprocess.run(
        [sys.executable, "-c", OPENED_ALONE, *map(str, [tiny_model, tmp_path / "asked.pt", *models])],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for folder, ours in models.items():
        torch.testing.assert_close(torch.load(folder / "answer.pt"), logits(ours), atol=1e-5, rtol=1e-5)
        merge_parts(ours)
        theirs = LlavaForConditionalGeneration.from_pretrained(folder / "merged").state_dict()
        for name, tensor in ours.state_dict().items():
            torch.testing.assert_close(theirs[name], tensor, atol=1e-6, rtol=1e-6, msg=name)


def test_the_folder_is_small_and_says_how_to_use_it(open_tiny: Open, tmp_path: Path) -> None:
    model: Any = prepare_parts(open_tiny().model, Recipe(train=BOTH, lora_rank=4), seed=0)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "old").touch()
    save_adapters(model, tmp_path / "adapter", base="a/model")
    assert sorted(file.name for file in tmp_path.rglob("*")) == [
        "README.md",
        "adapter",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in tensors.values()) == count(trained_parameters(model))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (4, "a/model")
    readme = (tmp_path / "adapter" / "README.md").read_text()
    assert 'from_pretrained("a/model")' in readme
    compile(readme.split("```python")[1].split("```")[0], "README.md", "exec")


def test_a_save_that_fails_leaves_what_was_there(
    open_tiny: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = prepare_parts(open_tiny().model, Recipe(train=BOTH, lora_rank=4), seed=0)
    save_adapters(model, tmp_path / "adapter", base="first")

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_adapters(model, tmp_path / "adapter", base="second")
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter"]
    assert "first" in (tmp_path / "adapter" / "README.md").read_text()


def test_a_state_gathered_from_shards_is_saved_instead(open_tiny: Open, tmp_path: Path) -> None:
    model: Any = prepare_parts(open_tiny().model, Recipe(train=BOTH, lora_rank=4), seed=0)
    state = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    save_adapters(model, tmp_path / "adapter", base="a/model", state=state)
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert not any(tensor.any() for tensor in tensors.values())


@WITH_BITSANDBYTES
@pytest.mark.parametrize(("quantise", "cosine"), [("4bit", 0.999999), ("8bit", 0.999)])
def test_beside_quantised_weights(quantise: str, cosine: float, tiny_model: Path, tmp_path: Path) -> None:
    """Folded into the unpacked weights they say what was trained, but for the inputs that 8 bits round as well.

    Folded into the weights from before the rounding, they would say something else.
    """
    loaded: Any = load_model(str(tiny_model), device="cpu", for_training=True, quantise=quantise)
    assert loaded.choices["precision"].value == "fp32"
    assert loaded.choices["quantise"].value == quantise
    prepare_parts(loaded.model, Recipe(train=BOTH, lora_rank=4, quantise=quantise), seed=0)
    jolt(loaded.model)
    beside = logits(loaded.model)
    save_adapters(loaded.model, tmp_path / "adapter", base=str(tiny_model), quantise=quantise)
    assert f"load_in_{quantise}" in (tmp_path / "adapter" / "README.md").read_text()
    merge_parts(loaded.model)
    folded = logits(loaded.model)
    save_model(loaded.model, loaded.processor, tmp_path / "merged")
    again: Any = load_model(str(tmp_path / "merged"), device="cpu", precision="fp32")
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    assert torch.equal(logits(again.model), folded)

    def agreement(other: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(other, beside, dim=-1).min())

    assert agreement(folded) > cosine
    from peft import PeftModel

    unrounded: Any = load_model(str(tiny_model), device="cpu", precision="fp32").model
    elsewhere = agreement(logits(PeftModel.from_pretrained(unrounded, str(tmp_path / "adapter"))))
    assert elsewhere < agreement(folded)


@WITH_BITSANDBYTES
def test_unpacked_weights_have_the_formats_of_the_model(tiny_model: Path) -> None:
    """Also where all else learned, and is in fp32."""
    loaded: Any = load_model(str(tiny_model), device="cpu", precision="bf16", for_training=True, quantise="4bit")
    recipe = Recipe(train=("projector", "lm", "embeddings", "vision_tower", "*norm*"), lora_rank=2, quantise="4bit")
    prepare_parts(loaded.model, recipe, seed=0)
    merge_parts(loaded.model)
    assert loaded.model.model.language_model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    loaded.model.to(torch.bfloat16)


@WITH_BITSANDBYTES
def test_a_folder_that_is_stored_in_4_bits_is_trained_on_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    stored = load_model(str(tiny_model), device="cpu", precision="4bit")
    save_model(stored.model, stored.processor, tmp_path)
    loaded: Any = load_model(str(tmp_path), device="cpu", for_training=True, quantise="4bit")
    assert torch.equal(logits(loaded.model), logits(stored.model))
    prepare_parts(loaded.model, Recipe(train=BOTH, lora_rank=4, quantise="4bit"), seed=0)
    loaded.model.train()(**inputs(loaded.model)).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in trained_parameters(loaded.model).values())
