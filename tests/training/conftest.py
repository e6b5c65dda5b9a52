"""What the training tests share: a fresh model to train, and examples of several lengths to train it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.progress import Silent
from llavamed_cli.training.samples import Example, find_data, read_examples

Open = Callable[[], LoadedModel]


@pytest.fixture
def open_tiny(tiny_model: Path) -> Open:
    """Opens the tiny model anew at each call: training changes it in place."""
    return lambda: load_model(str(tiny_model), device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def examples(tiny_model: Path, data_folder: Path) -> tuple[Example, ...]:
    """The nine conversations of instruct.jsonl, the last without a picture."""
    loaded = load_model(str(tiny_model), device="cpu", precision="fp32")
    files = find_data([data_folder], "instruct.jsonl", None)
    found = read_examples(files, loaded.chat, image_length=loaded.image_length, context=2048, progress=Silent())
    assert not found.faults
    return found.examples


@pytest.fixture(scope="session")
def counted_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved LLaVA whose sizes stand here, so that its numbers may be counted and its losses pinned.

    A Llama of width 64 that reads bytes, and a CLIP tower of width 48 with 4 x 4 patches of 8 pixels.
    """
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

    from llavamed_cli.model.assemble import assemble
    from llavamed_cli.model.chat_templates import builtin_template
    from llavamed_cli.model.save import save_model
    from llavamed_cli.model.tiny import byte_tokenizer

    folder = tmp_path_factory.mktemp("counted")
    tokenizer: Any = byte_tokenizer()
    tokenizer.chat_template = builtin_template("chatml")
    tokenizer.save_pretrained(folder / "words")
    small: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4}
    words = LlamaConfig(vocab_size=320, hidden_size=64, intermediate_size=160, tie_word_embeddings=True, **small)
    tower = CLIPVisionConfig(hidden_size=48, intermediate_size=96, image_size=32, patch_size=8, **small)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(words).save_pretrained(folder / "words")
        CLIPVisionModel(tower).save_pretrained(folder / "tower")
    made = assemble(str(folder / "words"), str(folder / "tower"), dtype=torch.float32, seed=0, image_size=32)
    save_model(made.model, made.processor, folder / "llava")
    return folder / "llava"


@pytest.fixture
def open_counted(counted_model: Path) -> Open:
    """Opens that model anew at each call."""
    return lambda: load_model(str(counted_model), device="cpu", precision="fp32")
