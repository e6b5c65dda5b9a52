"""What a LLaVA takes in memory, by its config alone, before anything is loaded.

Weights and cache are exact to the byte. Activations are the largest tensors alive at once, an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.precision import GB, QUANTISED

if TYPE_CHECKING:
    import torch
    from transformers import LlavaConfig

BLOCK, SCALE_BLOCK = 64, 256
"""NF4 numbers that share a scale, and scales that share one (QLoRA, arXiv 2305.14314, section 3)."""
TABLES = 4 * (16 + 256 + 1)
"""fp32 look-up tables and the offset that bitsandbytes keeps beside every 4-bit layer, in bytes."""
STATED_PROMPT, STATED_ANSWER = 256, 1024
"""Tokens of text around the picture, and of the answer, that a plan makes room for."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a LLaVA's parts, in numbers (not bytes).

    layers: (outputs, inputs) of each linear layer of the language model: what quantising changes.
    others: what it does not change: "vocabulary" (token table, output head; norms and biases), "projector", "vision
        tower".
    cache: keys and values a token leaves behind, in all layers.
    words: width and inner width of the language model. tower: width, inner width and number of layers of the tower.
    """

    layers: tuple[tuple[int, int], ...]
    others: Mapping[str, int]
    cache: int
    vocabulary: int
    words: tuple[int, int]
    tower: tuple[int, int, int]

    @classmethod
    def of(cls, config: LlavaConfig) -> ModelShape:
        """Read off a skeleton without weights (torch's meta device), whatever the parts' architectures are."""
        import torch
        from transformers import LlavaForConditionalGeneration

        with torch.device("meta"):
            model: Any = LlavaForConditionalGeneration(config)
        text, vision = config.text_config, config.vision_config
        linear = {
            f"model.language_model.{name}.weight": tuple(part.weight.shape)
            for name, part in model.model.language_model.named_modules()
            if isinstance(part, torch.nn.Linear)
        }
        others = {"vocabulary": 0, "projector": 0, "vision tower": 0}
        for name, parameter in model.named_parameters():  # a table shared with the head comes once
            if name not in linear:
                part = next((part for key, part in _PARTS.items() if key in name), "vocabulary")
                others[part] += parameter.numel()
        heads = text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // heads
        return cls(
            layers=tuple(linear.values()),
            others=others,
            cache=2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * width,
            vocabulary=text.vocab_size,
            words=(text.hidden_size, text.intermediate_size),
            tower=(vision.hidden_size, _inner_width(vision), vision.num_hidden_layers),
        )


_PARTS = {"vision_tower": "vision tower", "multi_modal_projector": "projector"}


def _inner_width(vision: Any) -> int:
    """DINOv2 states a ratio where the others state a width."""
    return getattr(vision, "intermediate_size", None) or int(vision.hidden_size * vision.mlp_ratio)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by what they are for; `tokens` is the longest conversation that the cache has room for."""

    precision: str
    weights: Mapping[str, int]
    tokens: int
    cache: int
    activations: int

    @property
    def weight_bytes(self) -> int:
        """All weights."""
        return sum(self.weights.values())

    @property
    def total(self) -> int:
        """The most that is held at once while the model answers."""
        return self.weight_bytes + self.cache + self.activations

    def sentence(self) -> str:
        """The arithmetic in one line."""
        return (
            f"{self.total / GB:.2f} GB = weights {self.weight_bytes / GB:.2f} + cache of {self.tokens:,} tokens "
            f"{self.cache / GB:.2f} + activations {self.activations / GB:.2f}"
        )

    def lines(self) -> list[str]:
        """The plan for a person, a part a line."""
        rows = [
            *self.weights.items(),
            (f"cache, {self.tokens:,} tokens", self.cache),
            ("activations", self.activations),
        ]
        return [f"{name:<24}{size / GB:>8.2f} GB" for name, size in [*rows, (f"in all, {self.precision}", self.total)]]


def plan_memory(
    shape: ModelShape,
    precision: str,
    dtype: torch.dtype,
    *,
    picture_tokens: int,
    pictures: int = 1,
    prompt_tokens: int = STATED_PROMPT,
    new_tokens: int = STATED_ANSWER,
) -> MemoryPlan:
    """What answering one conversation takes in `precision` (not auto), computing in `dtype`."""
    size = dtype.itemsize
    weights = {"language model": sum(layer_bytes(layer, precision, size) for layer in shape.layers)}
    prompt = pictures * picture_tokens + prompt_tokens
    return MemoryPlan(
        precision=precision,
        weights=weights | {name: numbers * size for name, numbers in shape.others.items()},
        tokens=prompt + new_tokens,
        cache=(prompt + new_tokens) * shape.cache * size,
        activations=_activations(shape, precision, size, prompt, pictures * picture_tokens, new_tokens),
    )


def layer_bytes(layer: tuple[int, int], precision: str, size: int) -> int:
    """A linear layer's weight: NF4 with double quantisation, int8 with a scale a row, or `size` bytes a number."""
    numbers = prod(layer)
    if precision == "4bit":
        scales = ceil(numbers / BLOCK)
        return ceil(numbers / 2) + scales + 4 * ceil(scales / SCALE_BLOCK) + TABLES
    return numbers + 4 * layer[0] if precision == "8bit" else numbers * size


def _activations(shape: ModelShape, precision: str, size: int, prompt: int, seen: int, new_tokens: int) -> int:
    """The larger of looking and reading, plus a row of fp32 logits for each new token, kept for the confidence.

    Looking: the hidden states of every layer of the tower (Hugging Face keeps them all to return one), one perceptron.
    Reading the prompt: one layer's perceptron (gate, up, their product), the residual stream, its norms and what they
    were made of, the attention mask; NF4 also unpacks the largest weight, and int8 sums in int32.
    """
    width, inner, depth = shape.tower
    looking = seen * (width * (depth + 5) + 2 * inner) * size
    width, inner = shape.words
    reading = prompt * (6 * width + 3 * inner) * size + prompt * prompt * size
    if precision in QUANTISED:
        reading += max(map(prod, shape.layers)) * size if precision == "4bit" else prompt * inner * 4
    return max(looking, reading) + new_tokens * shape.vocabulary * 4
