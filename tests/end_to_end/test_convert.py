"""`llavamed convert`: the reference's checkpoints to folders that plain transformers opens, with the same logits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

Run = Callable[..., Any]

PLAIN = """
import json, sys
sys.modules["llavamed_cli"] = None  # as if it were not installed
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, asked, answered = sys.argv[1:]
model, report = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
processor = AutoProcessor.from_pretrained(folder)
inputs = load_file(asked)
with torch.inference_mode():
    logits = model.eval()(**inputs).logits
text = processor.apply_chat_template([{"role": "user", "content": "<image>\\nQ"}], add_generation_prompt=True)
assert processor.tokenizer.pad_token_id is not None and processor.tokenizer.convert_tokens_to_ids("<image>") > 0
save_file({"logits": logits}, answered)
print(json.dumps({"text": text, "rows": model.config.text_config.vocab_size}))
"""
"""Opens a folder with nothing of ours, and leaves its logits."""


def plainly(folder: Path, inputs: dict[str, torch.Tensor], scratch: Path) -> tuple[dict[str, Any], torch.Tensor]:
    save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, scratch / "asked.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, folder, scratch / "asked.safetensors", scratch / "answered.safetensors"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said, load_file(scratch / "answered.safetensors")["logits"]


def asked(oracle: Path, number: int, picture_tokens: set[int], image: int) -> tuple[dict[str, torch.Tensor], Any]:
    """The recorded prompt as Hugging Face's LLaVA takes it, and its recorded outputs."""
    prompt = json.loads((oracle / "prompts.json").read_text())[number]
    outputs = load_file(oracle / "outputs.safetensors")
    run = outputs[f"image_features.{number}"].shape[1]
    ids: list[int] = []
    for token in prompt["input_ids"]:
        if token == -200:
            ids += [image] * run
        else:
            ids.append(image if token in picture_tokens else token)
    return {"input_ids": torch.tensor([ids]), "pixel_values": outputs[f"pixel_values.{number}"]}, outputs


@pytest.mark.parametrize(
    ("name", "tower", "recorded"),
    [
        ("separate", "checkpoint", "logits.separate"),
        ("inside", "checkpoint", "logits_last4.inside_weights"),
        ("inside", "stock", "logits_last4.inside_refload"),
    ],
)
def test_v15_opens_without_llavamed(
    name: str, tower: str, recorded: str, shared: Path, llavamed: Run, tmp_path: Path
) -> None:
    oracle = shared / "oracle" / "v15"
    source = oracle / f"llava-mistral-tiny-{name}"
    outcome = llavamed("convert", source, "--out", tmp_path / "out", "--vision-tower", tower, "--json")
    assert outcome.code == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["choices"]["vision tower"]["reason"]
    assert report["choices"]["chat template"]["value"] == "mistral_instruct"
    inputs, outputs = asked(oracle, 0, set(), image=512)
    said, logits = plainly(tmp_path / "out", inputs, tmp_path)
    expected = outputs[f"{recorded}.0"]
    torch.testing.assert_close(logits[0, -len(expected) :, :512], expected, atol=1e-4, rtol=0)
    assert (said["text"], said["rows"]) == ("<s>[INST] <image>\nQ [/INST]", 576)


@pytest.mark.parametrize("from_delta", [True, False])
def test_v1_opens_without_llavamed(from_delta: bool, shared: Path, llavamed: Run, tmp_path: Path) -> None:
    oracle = shared / "oracle" / "v10"
    source = ("delta", "--base", oracle / "base") if from_delta else ("applied-llava",)
    outcome = llavamed("convert", oracle / source[0], *source[1:], "--out", tmp_path / "out", "--dtype", "fp32")
    assert outcome.code == 0, outcome.stderr
    inputs, outputs = asked(oracle, 0, {513}, image=516)
    said, logits = plainly(tmp_path / "out", inputs, tmp_path)
    expected = outputs["logits.0"]
    torch.testing.assert_close(logits[0, -len(expected) :, :516], expected, atol=1e-4, rtol=0)
    assert "###Human: Q\n<im_start><image><im_end>###" in said["text"]


def test_the_same_command_again_does_nothing(tiny_model: Path, llavamed: Run, tmp_path: Path) -> None:
    first = llavamed("convert", tiny_model, "--out", tmp_path / "out", "--json")
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    again = llavamed("convert", tiny_model, "--out", tmp_path / "out", "--json")
    assert (first.code, again.code) == (0, 0)
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before
    other = llavamed("convert", tiny_model, "--out", tmp_path / "out", "--dtype", "bf16")
    assert other.code == 2 and "dtype: 'auto' there, 'bf16' now" in other.stderr


@pytest.mark.parametrize("dtype", ["4bit", "8bit"])
def test_a_quantised_folder_answers_as_the_model_quantised_on_the_way(
    dtype: str, tiny_model: Path, llavamed: Run, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    assert llavamed("convert", tiny_model, "--out", tmp_path / "out", "--dtype", dtype).code == 0
    question = (picture(tmp_path / "p.png"), "Is it so?", "--json", "--max-new-tokens", "12")
    on_the_way = llavamed("ask", *question, "--model", tiny_model, "--precision", dtype)
    reopened = llavamed("ask", *question, "--model", tmp_path / "out")
    assert json.loads(reopened.stdout)["answer"] == json.loads(on_the_way.stdout)["answer"]
    refused = llavamed("ask", *question, "--model", tmp_path / "out", "--precision", "bf16")
    assert refused.code == 2 and f"stored in {dtype}" in refused.stderr


def test_a_published_folder_answers_as_it_is(shared: Path, llavamed: Run, tmp_path: Path) -> None:
    source = shared / "oracle" / "v15" / "llava-mistral-tiny-inside"
    assert llavamed("convert", source, "--out", tmp_path / "out", "--dtype", "fp32").code == 0
    question = (picture(tmp_path / "p.png"), "Which organ?", "--json", "--max-new-tokens", "12", "--precision", "fp32")
    answers = [json.loads(llavamed("ask", *question, "--model", model).stdout) for model in (source, tmp_path / "out")]
    assert answers[0]["answer"] == answers[1]["answer"]
    assert answers[0]["confidence"] == pytest.approx(answers[1]["confidence"], abs=1e-4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "without config.json and without weights"),
        ({"config.json": "{"}, "not JSON"),
        ({"config.json": '{"model_type": "llava_mistral", "mm_hidden_size": 4}'}, "no weights"),
        ({"adapter_config.json": "{}"}, "LoRA adapter"),
    ],
)
def test_what_is_no_model_is_one_sentence(content: dict[str, str], said: str, llavamed: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, text in content.items():
        (source / name).write_text(text)
    outcome = llavamed("convert", source, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert said in outcome.stderr and str(source) in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "out" / "config.json").exists()


def test_bad_usage(tiny_model: Path, llavamed: Run, tmp_path: Path) -> None:
    outcome = llavamed("convert", tiny_model, "--out", tmp_path / "out", "--dtype", "int3")
    assert outcome.code == 2 and "unknown number format 'int3'" in outcome.stderr
    outcome = llavamed("convert", tiny_model, "--out", tmp_path / "out", "--base", tiny_model)
    assert outcome.code == 1 and "takes no --base" in outcome.stderr


def test_half_a_download_is_told(shared: Path, llavamed: Run, tmp_path: Path) -> None:
    source = Path(shutil.copytree(shared / "oracle" / "v15" / "llava-mistral-tiny-inside", tmp_path / "source"))
    (source / "model-00003-of-00004.safetensors").unlink()
    outcome = llavamed("convert", source, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "1 of 4 weight files are missing: model-00003-of-00004.safetensors" in outcome.stderr


def picture(path: Path) -> Path:
    from PIL import Image

    Image.linear_gradient("L").convert("RGB").save(path)
    return path
