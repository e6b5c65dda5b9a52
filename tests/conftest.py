"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import hypothesis
import pytest

from llavamed_cli.cli.app import main

hypothesis.settings.register_profile("shared machine", deadline=None)  # a busy neighbour is no fault of an example
hypothesis.settings.load_profile("shared machine")

SCRIPTED = "openai_server"
SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and oracles beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside this checkout")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What commands keep for their next start goes where the tests' other files go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLAVAMED_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LLAVAMED_CONFIG", str(tmp_path_factory.mktemp("config")))
        yield


@dataclass(frozen=True)
class Outcome:
    """What one command line did."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def llavamed(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command line in this process: `llavamed("ask", picture, "question")`."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code=code, stdout=captured.out, stderr=captured.err)

    return call


@pytest.fixture(scope="session")
def openai_server() -> ModuleType:
    """The module endpoint/openai_server.py."""
    if SCRIPTED not in sys.modules:
        spec = importlib.util.spec_from_file_location(SCRIPTED, Path(__file__).parent / "endpoint" / "openai_server.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[SCRIPTED] = module
        spec.loader.exec_module(module)
    return sys.modules[SCRIPTED]


@pytest.fixture
def serve(openai_server: ModuleType) -> Iterator[Callable[..., Any]]:
    """Start a scripted server: `serve(script, seconds=0.1)`; stopped when the test ends."""
    with ExitStack() as stack:
        yield lambda *arguments, **named: stack.enter_context(
            openai_server.ScriptedServer(*arguments, **named).running()
        )


@pytest.fixture(scope="session")
def echo() -> Iterator[SimpleNamespace]:
    """`llm-katan` with its echo backend: an OpenAI-compatible server that we did not write."""
    if importlib.util.find_spec("llm_katan") is None:
        pytest.skip("needs llm-katan (pip install llm-katan)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from llm_katan.cli import main; main()", "-m", "echo", "-b", "echo"]
    server = subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail("llm-katan did not start")
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/v1")
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved LLaVA of the `tiny` parts, untrained."""
    import torch

    from llavamed_cli.model.assemble import assemble
    from llavamed_cli.model.save import save_model

    folder = tmp_path_factory.mktemp("model") / "tiny"
    made = assemble("tiny", "tiny", dtype=torch.float32, seed=0)
    save_model(made.model, made.processor, folder)
    return folder


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What build-data would leave: eight coloured pictures, align.jsonl with a caption each, instruct.jsonl with two
    rounds about each and one conversation without a picture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    captions, dialogues = [], []
    for number, colour in enumerate(("black", "white", "red", "green", "blue", "gray", "pink", "brown")):
        picture = Image.new("RGB", (40, 24), colour)
        picture.paste("yellow", (4 * number, 4, 4 * number + 4, 20))
        picture.save(folder / "images" / f"{number}.png")
        asked = [f"<image>\nWhat colour is it{'?' * (number + 1)}", f"It is {colour}.", "Is there a stripe?", "Yes"]
        for records, texts in ((captions, ["<image>\nDescribe it.", f"A {colour} field."]), (dialogues, asked)):
            turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]
            records.append({"id": f"s{number}", "image": f"{number}.png", "conversations": turns})
    words = [{"from": "human", "value": "What is a lung?"}, {"from": "gpt", "value": "An organ that breathes."}]
    dialogues.append({"id": "words", "conversations": words})
    for name, records in (("align", captions), ("instruct", dialogues)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture(scope="session")
def biomed_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as BiomedCLIP is published, with random weights: open_clip's config and names, and a BERT's words.

    48 pixels in patches of 16, three blocks of width 32; one layer of BERT of width 64; 16 shared numbers.
    """
    import torch

    folder = tmp_path_factory.mktemp("biomed")
    shapes: dict[str, tuple[int, ...]] = {
        "visual.trunk.cls_token": (1, 1, 32),
        "visual.trunk.pos_embed": (1, 10, 32),
        "visual.trunk.patch_embed.proj.weight": (32, 3, 16, 16),
        "visual.trunk.patch_embed.proj.bias": (32,),
        "visual.trunk.norm.weight": (32,),
        "visual.trunk.norm.bias": (32,),
        "visual.head.proj.weight": (16, 32),
        "text.transformer.embeddings.word_embeddings.weight": (60, 64),
        "text.transformer.embeddings.position_embeddings.weight": (24, 64),
        "text.transformer.embeddings.token_type_embeddings.weight": (2, 64),
        "text.proj.0.weight": (40, 64),
        "text.proj.2.weight": (16, 40),
        "logit_scale": (),
    }
    blocks = {"norm1": (32,), "attn.qkv": (96, 32), "attn.proj": (32, 32), "norm2": (32,)}
    blocks |= {"mlp.fc1": (128, 32), "mlp.fc2": (32, 128)}
    bert = {f"attention.self.{part}": (64, 64) for part in ("query", "key", "value")}
    bert |= {"attention.output.dense": (64, 64), "attention.output.LayerNorm": (64,), "output.LayerNorm": (64,)}
    bert |= {"intermediate.dense": (80, 64), "output.dense": (64, 80)}
    layers = {f"visual.trunk.blocks.{number}.{part}": shape for number in range(3) for part, shape in blocks.items()}
    layers |= {f"text.transformer.encoder.layer.0.{part}": shape for part, shape in bert.items()}
    layers["text.transformer.embeddings.LayerNorm"] = (64,)
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator) * 0.2 + float("norm" in name.lower() and name.endswith("weight"))
        for name, shape in shapes.items()
    }
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    sizes = {"embed_dim": 32, "depth": 3, "num_heads": 4, "img_size": 48}
    vision = {"timm_model_name": "vit_base_patch16_224", "timm_model_pretrained": False, "timm_pool": ""}
    text = {"hf_model_name": "biomed-bert", "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    config = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {**vision, "timm_proj": "linear", "timm_overrides": sizes},
            "text_cfg": {**text, "context_length": 20},
        },
        "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder


CLIP_WORDS = "a an the chest x ray ct mri scan of lung image nodule left right lobe yes no"
CLIP_LENGTH = 12


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP folder of random weights with a tokenizer of words; it reads 12 tokens."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**small, "vocab_size": 40, "max_position_embeddings": CLIP_LENGTH, "bos_token_id": 1, "eos_token_id": 3}
    vision = {**small, "image_size": 32, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
        for parameter in model.parameters():  # the usual start makes all pictures alike
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    names = {word: number for number, word in enumerate(["<pad>", "<s>", "<unk>", "</s>", *CLIP_WORDS.split()])}
    words = Tokenizer(WordLevel(names, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 3)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    image = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pubmed_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as PubMedCLIP is published, with random weights: a whole CLIP as transformers 4.2x saved it.

    32 pixels in patches of 8, three layers of width 32.
    """
    import torch
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("pubmed")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {**small, "num_hidden_layers": 1, "vocab_size": 40, "max_position_embeddings": 12}
    vision = {**small, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tensors = CLIPModel(config).state_dict()
    inside = {name.split(".")[0] for name in tensors}
    assert {"vision_model", "text_model"} <= inside, "the published names are another version's"
    tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    tensors["text_model.embeddings.position_ids"] = torch.arange(12)[None]
    torch.save(tensors, folder / "pytorch_model.bin")
    config.save_pretrained(folder)
    return folder
