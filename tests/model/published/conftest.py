"""Small LLaVAs of random weights, and the layouts that others publish them in, written here by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.model.published.reading import Reading

ORIGINAL = (
    ("model.language_model.", "model."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
)
"""From the names that transformers 5 holds in memory to the original code's."""


@dataclass(frozen=True)
class Published:
    """A checkpoint on disk and the model it was written from."""

    folder: Path
    model: Any


@pytest.fixture(scope="session")
def words() -> Callable[[], Any]:
    """Make a byte-level tokenizer like LLaMA's: `<unk>` 0 (also the pad), `<s>` 1, `</s>` 2; 259 tokens."""

    def make() -> Any:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        named = ["<unk>", "<s>", "</s>"]
        pieces = [*named, *sorted(pre_tokenizers.ByteLevel.alphabet())]
        core = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.decoder = decoders.ByteLevel()
        core.add_special_tokens([AddedToken(token, special=True) for token in named])
        return PreTrainedTokenizerFast(
            tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
        )

    return make


@pytest.fixture(scope="session")
def random_llava() -> Callable[..., Any]:
    """Make a LLaVA of random weights: `text` of llama or mistral, `tower` of clip, siglip, vit or dinov2."""

    def make(text: str = "mistral", tower: str = "clip", *, rows: int = 259, seed: int = 0, **settings: Any) -> Any:
        import torch
        from transformers import (
            CLIPVisionConfig,
            Dinov2Config,
            LlamaConfig,
            LlavaConfig,
            LlavaForConditionalGeneration,
            MistralConfig,
            SiglipVisionConfig,
            ViTConfig,
        )

        towers = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig, "vit": ViTConfig, "dinov2": Dinov2Config}
        sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 1}
        vision = towers[tower](**sizes, image_size=16, patch_size=8)
        shape = {"vocab_size": rows, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}
        kind = {"llama": LlamaConfig, "mistral": MistralConfig}[text]
        extra = {"sliding_window": None} if text == "mistral" else {}
        config = LlavaConfig(
            text_config=kind(**shape, **heads, **extra),
            vision_config=vision,
            image_token_index=rows - 1,
            image_seq_length=4,
            vision_feature_select_strategy="full" if tower == "siglip" else "default",
            **settings,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlavaForConditionalGeneration(config).eval()
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    weight.add_(torch.randn_like(weight) * (0.2 if "norm" not in name else 0.02))
        return model

    return make


@pytest.fixture(scope="session")
def as_original() -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A state by the original code's names."""

    def rename(state: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, tensor in state.items():
            ours, theirs = next(((a, b) for a, b in ORIGINAL if name.startswith(a)), ("", ""))
            found[theirs + name[len(ours) :]] = tensor.clone()
        return found

    return rename


@pytest.fixture
def write_v15(
    tmp_path: Path, words: Callable[[], Any], random_llava: Callable[..., Any], as_original: Callable[..., Any]
) -> Callable[..., Published]:
    """Write a LLaVA 1.5 as the original code saves it, with its tower inside or not, and config keys changed."""

    def write(text: str = "mistral", *, inside: bool = True, name: str = "model", **keys: Any) -> Published:
        from safetensors.torch import save_file

        model = random_llava(text)
        state = as_original(model.state_dict())
        if not inside:
            state = {name: tensor for name, tensor in state.items() if "vision_tower" not in name}
        folder = tmp_path / name
        folder.mkdir()
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        words().save_pretrained(folder)
        flat = model.config.text_config.to_dict()
        rope = flat.pop("rope_parameters")
        flat.update(
            model_type=f"llava_{text}",
            architectures=[f"Llava{text.title()}ForCausalLM"],
            rope_theta=rope["rope_theta"],
            mm_vision_tower="openai/clip-vit-large-patch14",
            mm_projector_type="mlp2x_gelu",
            mm_hidden_size=64,
            mm_vision_select_layer=-2,
            mm_vision_select_feature="patch",
            image_aspect_ratio="pad",
            tokenizer_model_max_length=200,
            segtok_posembed="sincos",
        )
        (folder / "config.json").write_text(json.dumps({**flat, **keys}))
        return Published(folder, model)

    return write


@pytest.fixture(scope="session")
def opened() -> Callable[[Reading], Any]:
    """Load a reading into transformers' model, in fp32; nothing may be missing or left over."""

    def load(reading: Reading) -> Any:
        import torch
        from transformers import LlavaForConditionalGeneration

        model, told = LlavaForConditionalGeneration.from_pretrained(
            None,
            config=reading.config,
            state_dict=dict(reading.tensors),
            dtype=torch.float32,
            output_loading_info=True,
        )
        assert not any(told.values()), told
        return model.eval()

    return load


@pytest.fixture(scope="session")
def answered() -> Callable[..., Any]:
    """Logits [positions, vocabulary] of a model for a fixed text around one picture, of random pixels."""

    def run(model: Any) -> Any:
        import torch

        size = model.config.vision_config.image_size
        pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
        picture = [model.config.image_token_index] * model.config.image_seq_length
        with torch.no_grad():
            return model(input_ids=torch.tensor([[1, 70, *picture, 80, 90, 100]]), pixel_values=pixels).logits[0]

    return run
