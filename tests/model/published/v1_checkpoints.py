"""LLaVA 1 checkpoints as the original code would save them, made of random weights by plain transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

TEXT, VISION, PIXELS, PATCH = 64, 24, 32, 16
ADDED = ("[PAD]", "<im_patch>", "<im_start>", "<im_end>")
BASE_WORDS = 3 + 256
"""`<unk>`, `<s>`, `</s>` and the bytes."""
PREFIX = "model.mm_projector."


def save_tokenizer(folder: Path, added: tuple[str, ...]) -> None:
    """A byte tokenizer as a tokenizer.json, with LLaMA's three tokens first and `added` last."""
    named = ["<unk>", "<s>", "</s>"]
    pieces = [*named, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in (*named, *added)])
    pad = {"pad_token": "[PAD]"} if "[PAD]" in added else {}
    PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", **pad
    ).save_pretrained(folder)


def make_clip(folder: Path, width: int = VISION) -> None:
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=PIXELS,
        patch_size=PATCH,
    )
    torch.manual_seed(1)
    CLIPVisionModel(config).save_pretrained(folder)
    size = {"height": PIXELS, "width": PIXELS}
    CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size=size).save_pretrained(folder)


def make_llama(rows: int, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=TEXT,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.1,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def halves(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    return {name: tensor.half() for name, tensor in model.state_dict().items()}


def save(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({name: tensor.clone() for name, tensor in tensors.items()}, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def make_v1(where: Path) -> Path:
    """`where/llava` in version 1.0's layout, and `where/clip`, the tower that its config names."""
    make_clip(where / "clip")
    llama = make_llama(BASE_WORDS + len(ADDED))
    generator = torch.Generator().manual_seed(2)
    projector = {
        f"{PREFIX}weight": torch.randn(TEXT, VISION, generator=generator).half() / 5,
        f"{PREFIX}bias": torch.randn(TEXT, generator=generator).half(),
    }
    config = {
        **llama.config.to_dict(),
        "model_type": "llava",
        "architectures": ["LlavaLlamaForCausalLM"],
        "mm_vision_tower": "clip",
        "mm_hidden_size": VISION,
        "mm_vision_select_layer": -2,
        "mm_use_im_start_end": True,
        "use_mm_proj": True,
    }
    save(where / "llava", {**halves(llama), **projector}, config)
    save_tokenizer(where / "llava", ADDED)
    return where / "llava"


def make_delta(v1: Path, where: Path) -> tuple[Path, Path]:
    """`where/delta` and `where/base`: the checkpoint `v1` minus a base near it, in fp16 as the reference subtracts."""
    shutil.copytree(v1.parent, where, dirs_exist_ok=True)
    (where / "llava").rename(where / "delta")
    whole = torch.load(v1 / "pytorch_model.bin", weights_only=True)
    base = halves(make_llama(BASE_WORDS))
    generator = torch.Generator().manual_seed(3)
    for name, tensor in base.items():
        near = whole[name][: len(tensor)].float()
        tensor.copy_(near + 0.05 * near.std().clamp(min=0.1) * torch.randn(near.shape, generator=generator))
        whole[name][: len(tensor)] -= tensor
    config = json.loads((v1 / "config.json").read_text(encoding="utf-8"))
    save(where / "delta", whole, config)
    text = {key: value for key, value in config.items() if not key.startswith(("mm_", "use_mm"))}
    save(where / "base", base, {**text, "model_type": "llama", "vocab_size": BASE_WORDS})
    save_tokenizer(where / "base", ())
    return where / "delta", where / "base"


def plain_logits(v1: Path, ids: torch.Tensor, pixels: torch.Tensor, image_token: int) -> torch.Tensor:
    """What a plain Llama answers to the words' embeddings with W x + b in the picture's place: [1, T, vocabulary]."""
    weights = {name: value.float() for name, value in torch.load(v1 / "pytorch_model.bin", weights_only=True).items()}
    clip = CLIPVisionModel.from_pretrained(v1.parent / "clip").eval()
    features = clip(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    projected = torch.nn.functional.linear(features, weights.pop(f"{PREFIX}weight"), weights.pop(f"{PREFIX}bias"))
    llama = make_llama(BASE_WORDS + len(ADDED))
    llama.load_state_dict(weights)
    embeddings = llama.get_input_embeddings()(ids.masked_fill(ids == image_token, 0))
    embeddings[ids == image_token] = projected.flatten(0, 1)
    logits: torch.Tensor = llama(inputs_embeds=embeddings).logits
    return logits
