"""A LLaVA from its three parts: a language model, a vision tower, and a projector between them, new and untrained.

The result is Hugging Face's own `LlavaForConditionalGeneration` and `LlavaProcessor`, put together here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.attention import choose_attention
from llavamed_cli.model.chat import ChatFormat
from llavamed_cli.model.language_model import LanguageModel, load_language_model
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.precision import Choice, choose_device, choose_precision, torch_dtype
from llavamed_cli.model.published.llava_config import llava_config, select_strategy
from llavamed_cli.model.published.processor import build_processor
from llavamed_cli.model.vision_tower import VisionTower, load_vision_tower

if TYPE_CHECKING:
    import torch
    from transformers import LlavaForConditionalGeneration, LlavaProcessor


@dataclass(frozen=True)
class Assembled:
    """A LLaVA and what feeds it."""

    model: LlavaForConditionalGeneration = field(repr=False)
    processor: LlavaProcessor = field(repr=False)
    chosen_template: Choice
    image_tokens: int


def assemble(
    language_model: str,
    vision_tower: str,
    *,
    dtype: torch.dtype,
    seed: int,
    image_size: int | None = None,
    template: str | None = None,
) -> Assembled:
    """Load both parts and join them by a fresh two-layer projector (mlp2x_gelu, as LLaVA-Med v1.5).

    Raises:
        ModelError: a part cannot be loaded or does not fit.
    """
    words = load_language_model(language_model, dtype=dtype, seed=seed, template=template)
    tower = load_vision_tower(vision_tower, dtype=dtype, seed=seed, image_size=image_size)
    # Padded to a square with the mean colour, never cropped: a chest film's edges hold findings.
    processor = build_processor(words.tokenizer, words.template, tower.reading, aspect="pad")
    model = _model(words, tower)
    _start_projector(model, seed)
    ends = ChatFormat(words.tokenizer, words.template).stop_token_ids
    model.generation_config.eos_token_id = sorted({*ends, words.tokenizer.eos_token_id} - {None})
    model.generation_config.pad_token_id = words.tokenizer.pad_token_id
    return Assembled(model.to(dtype), processor, words.chosen_template, model.config.image_seq_length)


def assemble_on(
    language_model: str,
    vision_tower: str,
    *,
    device: str,
    precision: str,
    seed: int,
    image_size: int | None = None,
    template: str | None = None,
) -> LoadedModel:
    """`assemble`, on a device, with the choices that `load_model` makes for a model that exists already."""
    chosen_device = choose_device(device)
    chosen_precision = choose_precision(precision, chosen_device.value)
    attention = choose_attention(chosen_device.value, chosen_precision.value)
    made = assemble(
        language_model,
        vision_tower,
        dtype=torch_dtype(chosen_precision.value),
        seed=seed,
        image_size=image_size,
        template=template,
    )
    model: Any = made.model
    model.set_attn_implementation(attention.value)
    choices = {
        "device": chosen_device,
        "precision": chosen_precision,
        "attention": attention,
        "chat template": made.chosen_template,
    }
    return LoadedModel(model.to(chosen_device.value).eval(), made.processor, chosen_device.value, choices)


def _model(words: LanguageModel, tower: VisionTower) -> Any:
    """Join the loaded parts inside a skeleton without weights, so that no part is held twice in memory."""
    import torch
    from transformers import LlavaForConditionalGeneration

    reading = tower.reading
    config = llava_config(
        words.model.config,
        tower.model.config,
        image_token=words.tokenizer.convert_tokens_to_ids("<image>"),
        pad_token=words.tokenizer.pad_token_id,
        feature_layer=reading.feature_layer,
        strategy=select_strategy("patch", class_token=reading.class_token),
        image_size=reading.size,
    )
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    model.model.language_model = words.model.model
    model.lm_head = words.model.get_output_embeddings()
    model.model.vision_tower = tower.model
    model.generation_config = words.model.generation_config
    model.tie_weights()
    return model.eval()


def _start_projector(model: Any, seed: int) -> None:
    """Draw the projector's weights from `seed`: normal, standard deviation 1 / sqrt(inputs), no bias."""
    import torch

    projector = model.model.multi_modal_projector.to_empty(device="cpu").float()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (projector.linear_1, projector.linear_2):
            layer.weight.normal_(std=layer.in_features**-0.5, generator=generator)
            layer.bias.zero_()
