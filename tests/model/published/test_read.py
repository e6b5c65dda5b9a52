"""The front door: what it refuses, in one sentence each; and what reading 7B costs before a weight is used."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.read import read_published
from llavamed_cli.model.published.tower_tensors import tower_shapes

MEGABYTE = 2**20


class Payload:
    """Runs a command when it is unpickled by anything that trusts it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def refusal(folder: Path, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_published(folder, **options)
    assert "\n" not in caught.value.what
    return caught.value


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    assert "without config.json and without weights" in refusal(tmp_path).what
    assert "no such model folder" in refusal(tmp_path / "absent").what


def test_half_a_download(write_v15: Callable[..., Any]) -> None:
    folder = write_v15().folder
    (folder / "model.safetensors").rename(folder / "model.safetensors.incomplete")
    assert "the download is not finished: model.safetensors.incomplete" in refusal(folder).what


def test_a_file_cut_short(write_v15: Callable[..., Any]) -> None:
    file = write_v15().folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1000)
    assert "damaged or cut short" in refusal(file.parent).what


def test_a_shard_missing_from_the_index(write_v15: Callable[..., Any]) -> None:
    folder = write_v15().folder
    state = load_file(folder / "model.safetensors")
    places = dict.fromkeys(state, "model-00001-of-00002.safetensors")
    places["lm_head.weight"] = "model-00002-of-00002.safetensors"
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert "1 of 2 weight files are missing: model-00002-of-00002.safetensors" in refusal(folder).what


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_with_a_payload_runs_nothing(write_v15: Callable[..., Any], tmp_path: Path, form: str) -> None:
    folder = write_v15().folder
    (folder / "model.safetensors").unlink()
    mark = tmp_path / "it ran"
    content = {"model.norm.weight": torch.ones(32), "extra": Payload(mark)}
    file = folder / "pytorch_model.bin"
    if form == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))
    refusal(folder)
    assert not mark.exists()


def test_honest_pickles_are_read(write_v15: Callable[..., Any], opened: Callable[..., Any]) -> None:
    made = write_v15()
    torch.save(load_file(made.folder / "model.safetensors"), made.folder / "pytorch_model.bin")
    (made.folder / "model.safetensors").unlink()
    state, norm = opened(read_published(made.folder)).state_dict(), "model.language_model.norm.weight"
    assert torch.equal(state[norm], made.model.state_dict()[norm])


def test_an_unknown_projector(write_v15: Callable[..., Any]) -> None:
    assert "mm_projector_type is 'cabstract'" in refusal(write_v15(mm_projector_type="cabstract").folder).what


@pytest.mark.parametrize(
    ("config", "tensors", "hint"),
    [
        ({"model_type": "clip"}, {"vision_model.x": torch.ones(1)}, "--vision-tower"),
        ({"model_type": "llama"}, {"model.embed_tokens.weight": torch.ones(1)}, "--language-model"),
    ],
)
def test_a_part_says_where_it_goes(tmp_path: Path, config: dict[str, Any], tensors: dict[str, Any], hint: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors")
    error = refusal(tmp_path)
    assert error.what.startswith("expected a LLaVA, found ")
    assert hint in str(error.hint)


def test_an_adapter_is_to_be_merged(write_v15: Callable[..., Any]) -> None:
    folder = write_v15().folder
    (folder / "adapter_config.json").write_text("{}")
    error = refusal(folder)
    assert error.what == "expected a LLaVA, found a LoRA adapter"
    assert "Merge it" in str(error.hint)


def test_a_base_where_there_is_none_to_add(write_v15: Callable[..., Any], tmp_path: Path) -> None:
    assert "whole: it takes no --base" in refusal(write_v15().folder, base=tmp_path).what


def test_a_delta_or_a_projector_without_its_base(shared: Path, tmp_path: Path) -> None:
    assert "nothing without its base" in refusal(shared / "oracle" / "v10" / "delta").what
    torch.save({"model.mm_projector.weight": torch.ones(4, 2)}, tmp_path / "mm_projector.bin")
    assert "nothing without its base" in refusal(tmp_path).what


def test_no_tokenizer(write_v15: Callable[..., Any]) -> None:
    folder = write_v15().folder
    for file in folder.glob("*token*"):
        file.unlink()
    assert "tokenizer" in refusal(folder).what


# ---- 7B


def mistral_shapes() -> dict[str, tuple[int, ...]]:
    """Tensors of microsoft/llava-med-v1.5-mistral-7b by name (facts, section 1.1)."""
    from transformers import CLIPVisionConfig

    wide, inner, keys = 4096, 14336, 1024
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (32000, wide), "lm_head.weight": (32000, wide)}
    for number in range(32):
        layer = f"model.layers.{number}."
        for name, shape in (
            ("self_attn.q_proj", (wide, wide)),
            ("self_attn.k_proj", (keys, wide)),
            ("self_attn.v_proj", (keys, wide)),
            ("self_attn.o_proj", (wide, wide)),
            ("mlp.gate_proj", (inner, wide)),
            ("mlp.up_proj", (inner, wide)),
            ("mlp.down_proj", (wide, inner)),
            ("input_layernorm", (wide,)),
            ("post_attention_layernorm", (wide,)),
        ):
            shapes[f"{layer}{name}.weight"] = shape
    shapes["model.norm.weight"] = (wide,)
    for place, width in ((0, 1024), (2, wide)):
        shapes[f"model.mm_projector.{place}.weight"], shapes[f"model.mm_projector.{place}.bias"] = (
            (wide, width),
            (wide,),
        )
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    inside = "model.vision_tower.vision_tower.vision_model."
    return {**shapes, **{inside + name: shape for name, shape in tower_shapes(vision).items()}}


def write_sparse(file: Path, shapes: dict[str, tuple[int, ...]]) -> int:
    """A safetensors file in bf16 whose data are a hole, but for the last norm's ones. Returns its size."""
    head, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * torch.Size(shape).numel()
        head[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
        if "model.norm.weight" in head:
            stream.seek(8 + len(text) + head["model.norm.weight"]["data_offsets"][0])
            stream.write(b"\x80\x3f" * shapes["model.norm.weight"][0])
    return 8 + len(text) + end


@pytest.fixture
def seven_billion(tmp_path: Path, words: Callable[[], Any]) -> Path:
    """LLaVA-Med 1.5's size and names in four sparse shards; only its numbers are missing."""
    folder = tmp_path / "seven"
    folder.mkdir()
    shapes = list(mistral_shapes().items())
    places, size = {}, 0
    for number in range(4):
        shard = f"model-{number + 1:05d}-of-00004.safetensors"
        part = dict(shapes[number::4])
        size += write_sparse(folder / shard, part)
        places.update(dict.fromkeys(part, shard))
    assert size == pytest.approx(15.13e9, rel=1e-3)  # as published
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    config = {
        "model_type": "llava_mistral",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "rope_theta": 1e6,
        "sliding_window": None,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "image_aspect_ratio": "pad",
    }
    (folder / "config.json").write_text(json.dumps(config))
    words().save_pretrained(folder)
    return folder


MEASURE = """
import resource, sys
from pathlib import Path
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor, MistralConfig
from llavamed_cli.model.published.read import read_published
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reading = read_published(Path(sys.argv[1]))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(tensor.bytes for tensor in reading.tensors.values())
print(after - before, total, reading.config.image_seq_length, reading.report.used)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux alone")
def test_reading_7b_takes_little_memory(seven_billion: Path) -> None:
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(seven_billion)], capture_output=True, text=True, check=True, env=settings
    )
    grown, total, tokens, used = map(int, re.findall(r"\d+", done.stdout.splitlines()[-1]))
    assert grown * 1024 < 300 * MEGABYTE
    assert total > 15e9
    assert (tokens, used) == (576, len(mistral_shapes()))
