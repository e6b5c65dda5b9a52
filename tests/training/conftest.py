"""What the training tests share: a fresh model to train, and examples of several lengths to train it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy
import pytest

from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.progress import Silent
from llavamed_cli.training.data_files import find_data
from llavamed_cli.training.examples import Example, ExampleSet
from llavamed_cli.training.samples import read_examples

PICTURE = 16
"""Tokens of a picture in the counted model."""

Open = Callable[[], LoadedModel]


class FewExamples(list[Example]):
    """Examples made in a test, with what an ExampleSet knows of its own."""

    @property
    def lengths(self) -> numpy.ndarray:
        return numpy.asarray([len(example.input_ids) for example in self])

    @property
    def supervised(self) -> numpy.ndarray:
        return numpy.asarray([int(example.supervised[1:].sum()) for example in self])

    @property
    def picture_counts(self) -> numpy.ndarray:
        return numpy.asarray([len(example.pictures) for example in self])

    @property
    def picture_keys(self) -> numpy.ndarray:
        known = {pictures: key for key, pictures in enumerate(dict.fromkeys(example.pictures for example in self))}
        return numpy.asarray([known[example.pictures] if example.pictures else -1 for example in self])

    @property
    def prefix_lengths(self) -> numpy.ndarray:
        """Pictures come first in these examples, `PICTURE` tokens each."""
        return self.picture_counts * PICTURE

    @property
    def pictures(self) -> int:
        return len({path for example in self for path in example.pictures})

    def example_ids(self, indices: Iterable[int]) -> list[str]:
        return [self[index].id for index in indices]

    def require_pictures(self, indices: Iterable[int]) -> None:
        return


@pytest.fixture
def few() -> type[FewExamples]:
    return FewExamples


@pytest.fixture
def open_tiny(tiny_model: Path) -> Open:
    """Opens the tiny model anew at each call: training changes it in place."""
    return lambda: load_model(str(tiny_model), device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def examples(tiny_model: Path, data_folder: Path) -> ExampleSet:
    """The nine conversations of instruct.jsonl, the last without a picture."""
    loaded = load_model(str(tiny_model), device="cpu", precision="fp32")
    files = find_data([data_folder], "instruct.jsonl", None)
    found = read_examples(files, loaded.chat, image_length=loaded.image_length, context=2048, progress=Silent())
    assert not found.faults
    return found


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
