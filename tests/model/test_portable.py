"""The keys that transformers 4 looks for; tests/benchmarks/other_transformers.py opens a folder with the real ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from llavamed_cli.model.portable import make_portable


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_the_old_names_stand_beside_the_new(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    make_portable(folder)
    config = read(folder / "config.json")
    assert config["torch_dtype"] == config["dtype"] == "float32"
    words = config["text_config"]
    assert words["rope_theta"] == words["rope_parameters"]["rope_theta"]
    assert read(folder / "preprocessor_config.json")["image_processor_type"] == "LlavaImageProcessor"
    assert "image_processor" not in read(folder / "processor_config.json")
    tokenizer = read(folder / "tokenizer_config.json")
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert tokenizer["additional_special_tokens"] == ["<image>"]


def test_a_stretched_rope_is_told_whole(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = read(folder / "config.json")
    config["text_config"]["rope_parameters"] = {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}
    (folder / "config.json").write_text(json.dumps(config))
    make_portable(folder)
    words = read(folder / "config.json")["text_config"]
    assert (words["rope_theta"], words["rope_scaling"]) == (5e5, {"rope_type": "linear", "factor": 4.0})
    assert AutoConfig.from_pretrained(folder).text_config.rope_parameters == config["text_config"]["rope_parameters"]


def test_version_5_reads_it_as_before(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    make_portable(folder)
    make_portable(folder)  # twice is once
    before, after = (AutoConfig.from_pretrained(place).to_dict() for place in (tiny_model, folder))
    for name in ("torch_dtype", "rope_theta"):
        after.pop(name, None)
    assert after["text_config"]["rope_parameters"] == before["text_config"]["rope_parameters"]
    processors = [AutoProcessor.from_pretrained(place) for place in (tiny_model, folder)]
    assert processors[0].image_processor.to_dict() == processors[1].image_processor.to_dict()
    tokenizers = [AutoTokenizer.from_pretrained(place) for place in (tiny_model, folder)]
    text = "<|im_start|>user\n<image>What is it?<|im_end|>"
    assert tokenizers[0](text)["input_ids"] == tokenizers[1](text)["input_ids"]
    models = [AutoModelForImageTextToText.from_pretrained(place) for place in (tiny_model, folder)]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
