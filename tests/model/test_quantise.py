"""Quantised weights: in the language model alone, and the same after answering, saving and opening again, anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.errors import ModelError, UsageError
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.quantise import has_bitsandbytes, quantisation, settle
from llavamed_cli.model.save import save_model
from llavamed_cli.phantoms import draw_phantoms
from llavamed_cli.records import Turn

pytestmark = pytest.mark.skipif(not has_bitsandbytes(), reason="bitsandbytes is not installed")

QUANTISED = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}


def prompts() -> list[Prompt]:
    return [
        Prompt((Turn(speaker="human", text="<image>\nIs there a mass?"),), (phantom.picture,))
        for phantom in draw_phantoms(3, split="test", seed=0)
    ]


def answers(loaded: LoadedModel) -> list[tuple[int, ...]]:
    """In a batch, and one by one: with one token at a time bitsandbytes takes another path."""
    batch = answer_batch(loaded, prompts(), max_new_tokens=6)
    return [answer.token_ids for answer in [*batch, answer_batch(loaded, prompts()[:1], max_new_tokens=6)[0]]]


def logits(loaded: LoadedModel) -> torch.Tensor:
    model: Any = loaded.model
    ids = torch.tensor([[loaded.chat.image_token_id] * loaded.image_length + [11, 12, 13]])
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids, pixel_values=pixels).logits
    return found


@pytest.mark.parametrize("precision", QUANTISED)
def test_the_language_model_alone_is_quantised(precision: str, tiny_model: Path) -> None:
    model: Any = load_model(str(tiny_model), device="cpu", precision=precision).model
    kinds = {name: type(part).__name__ for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    words = {name for name in kinds if name.startswith("model.language_model.")}
    assert len(words) == 4 * 7
    assert {kinds[name] for name in words} == {QUANTISED[precision]}
    assert {kind for name, kind in kinds.items() if name not in words} == {"Linear"}
    assert model.dtype == torch.float32


@pytest.mark.parametrize("precision", QUANTISED)
def test_it_is_near_the_exact_model(precision: str, tiny_model: Path) -> None:
    exact = logits(load_model(str(tiny_model), device="cpu", precision="fp32"))
    near = logits(load_model(str(tiny_model), device="cpu", precision=precision))
    cosine = torch.nn.functional.cosine_similarity(near, exact, dim=-1)
    assert cosine.min() > {"4bit": 0.9, "8bit": 0.999}[precision]
    assert not torch.equal(near, exact)


@pytest.mark.parametrize("precision", QUANTISED)
def test_saved_after_it_has_answered(precision: str, tiny_model: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_model), device="cpu", precision=precision)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    said, seen = answers(loaded), logits(loaded)
    save_model(loaded.model, loaded.processor, tmp_path / "small")
    again = load_model(str(tmp_path / "small"), device="cpu")
    assert again.choices["precision"].value == precision
    assert again.choices["precision"].reason.startswith("the folder is stored so; ")
    held = again.model.state_dict()
    assert held.keys() == before.keys()
    assert all(torch.equal(held[name], before[name]) for name in held)
    assert answers(again) == said
    # the numbers are the same; where they lie in memory decides in which order a CPU sums them
    torch.testing.assert_close(logits(again), seen, atol=1e-5, rtol=0)
    assert answers(loaded) == said
    assert torch.equal(logits(loaded), seen)


PLAIN = """
import sys
sys.modules["llavamed_cli"] = None  # importing it fails
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
try:
    import llavamed_cli
except ImportError:
    pass
else:
    sys.exit("llavamed_cli is there")
for folder in sys.argv[1:]:
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.chat_template and processor.tokenizer.pad_token
    places = {"": "cpu"}
    model, report = AutoModelForImageTextToText.from_pretrained(folder, device_map=places, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    ids = torch.tensor([[image] * 64 + [11, 12, 13]])
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        torch.save(model(input_ids=ids, pixel_values=pixels).logits, folder + "/logits.pt")
"""


def test_plain_transformers_opens_it(tiny_model: Path, tmp_path: Path) -> None:
    expected: dict[Path, torch.Tensor] = {}
    for precision in QUANTISED:
        loaded = load_model(str(tiny_model), device="cpu", precision=precision)
        answers(loaded)
        folder = tmp_path / precision
        save_model(loaded.model, loaded.processor, folder)
        expected[folder] = logits(loaded)
    ran = subprocess.run([sys.executable, "-c", PLAIN, *expected], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for folder, here in expected.items():
        there = torch.load(folder / "logits.pt", weights_only=True)
        # a 4-bit layer computes in bf16 there, on CPUs that have it
        assert torch.nn.functional.cosine_similarity(there, here, dim=-1).min() > 0.9999


def test_a_precision_that_contradicts_the_folder(tiny_model: Path, tmp_path: Path) -> None:
    loaded = load_model(str(tiny_model), device="cpu", precision="4bit")
    save_model(loaded.model, loaded.processor, tmp_path)
    for precision in ("8bit", "fp32"):
        with pytest.raises(
            UsageError, match=f"--precision {precision} was asked for, and the weights are stored in 4bit"
        ):
            load_model(str(tmp_path), device="cpu", precision=precision)
    assert load_model(str(tmp_path), device="cpu", precision="4bit").choices["precision"].value == "4bit"
    with pytest.raises(UsageError, match="stored in 4bit, in which they can answer, not learn"):
        load_model(str(tmp_path), device="cpu", for_training=True)


@pytest.mark.parametrize("stored", [{"quant_method": "gptq", "bits": 4}, {"bits": 4}, {"quant_method": "bitsandbytes"}])
def test_weights_quantised_by_something_else(stored: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": stored}))
    with pytest.raises(ModelError, match="the weights are quantised by "):
        load_model(str(folder), device="cpu")


def test_without_bitsandbytes(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(str(tiny_model), device="cpu", precision="4bit")
    save_model(loaded.model, loaded.processor, tmp_path)
    monkeypatch.setattr("llavamed_cli.model.quantise.has_bitsandbytes", lambda: False)
    for folder, precision in ((tiny_model, "8bit"), (tmp_path, "auto")):
        with pytest.raises(UsageError, match="bit needs bitsandbytes, which is not installed"):
            load_model(str(folder), device="cpu", precision=precision)


def test_a_bitsandbytes_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise OSError("libcudart.so.11.0: cannot open shared object file\nmore")

    monkeypatch.setattr("llavamed_cli.model.quantise.importlib.import_module", broken)
    with pytest.raises(ModelError, match=r"does not run here: libcudart.so.11.0: .* object file\n  Use bf16"):
        quantisation("4bit", torch.float32)


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 48), (7, 5), (65, 65), (3, 64), (128, 1)])
@pytest.mark.parametrize("double", [True, False])
def test_any_width_answers_and_keeps_its_weights(inputs: int, outputs: int, double: bool) -> None:
    """On CPUs with AVX512-BF16, bitsandbytes as it is fails or is garbage in most of these."""
    import bitsandbytes

    weight = torch.linspace(-1, 1, inputs * outputs).reshape(outputs, inputs).sin()
    layer = bitsandbytes.nn.Linear4bit(inputs, outputs, bias=False, compress_statistics=double, quant_type="nf4")
    layer.weight = bitsandbytes.nn.Params4bit(
        weight.clone(), requires_grad=False, compress_statistics=double, quant_type="nf4", module=layer
    ).to("cpu")
    model: Any = torch.nn.Sequential(layer).eval()
    settle(model, torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    unpacked = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    assert (unpacked - weight).abs().max() < 0.2 * weight.abs().max()  # NF4's widest gap is 0.3 of a block's largest
    for rows in (1, 3):
        asked = torch.linspace(0, 1, rows * inputs).reshape(rows, inputs)
        with torch.inference_mode():
            torch.testing.assert_close(model(asked), asked @ unpacked.T, atol=1e-5, rtol=1e-5)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in after)
