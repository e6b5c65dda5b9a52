"""What a recipe makes of a model, in numbers and bytes, by its config alone: no weight is read, none is made.

The parts are chosen by the code that chooses them for training, on a skeleton without contents (torch's meta device):
what is planned is what is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.memory_plan import layer_bytes
from llavamed_cli.training.parts import prepare_parts
from llavamed_cli.training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import LlavaConfig

LANGUAGE_MODEL, LOW_RANK, VOCABULARY = "language model", "low-rank additions", "vocabulary"
PROJECTOR, TOWER = "projector", "vision tower"
HELD = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of a number that does not learn; one that learns has 4 in every precision (`prepare_parts`)."""
EIGHT_BIT_FROM, EIGHT_BIT_BLOCK = 4096, 256
"""bitsandbytes' optimisers keep smaller tensors in 32 bits, and a scale for so many numbers of the others."""


@dataclass(frozen=True)
class PartSize:
    """A part of the model, as far as it learns or as far as it does not. held: bytes of its weights."""

    name: str
    trained: bool
    numbers: int
    held: int


@dataclass(frozen=True)
class TrainedTensor:
    """One tensor that learns. table: it is the word table, whose moments 8-bit AdamW keeps in 32 bits."""

    numbers: int
    table: bool

    def moments(self, optimizer: str) -> int:
        """Bytes of what AdamW keeps of it: two moments; torch's counts its steps too, in 4 bytes."""
        if optimizer == "adamw":
            return 8 * self.numbers + 4
        if self.table or self.numbers < EIGHT_BIT_FROM:
            return 8 * self.numbers
        return 2 * (self.numbers + 4 * ceil(self.numbers / EIGHT_BIT_BLOCK))


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """What memory and arithmetic depend on.

    matrices: numbers of the language model's weight matrices, through which every token goes, low-rank additions with
        them; trained_matrices: of those, what learns. largest: numbers of the largest of them, and of a layer.
    spared: of the matrices, those that graded positions alone go through (model/last_layer.py); of those, what learns.
    head, head_trained: numbers of the output head; and whether it learns.
    depth, width, inner, queries, keys: of the language model's layers: how many there are; the width of states, of the
        perceptron, of all heads' queries, of all heads' keys. heads: how many.
    lm_trained: whether any of its own weights learn. rank: of low-rank additions, 0 for none.
    tower: the vision tower's layers, width and inner width. picture: tokens that one picture becomes. seen: tokens that
        the tower reads of it. tower_trained: whether it learns.
    """

    parts: tuple[PartSize, ...]
    trained: tuple[TrainedTensor, ...] = field(repr=False)
    matrices: int
    trained_matrices: int
    largest: tuple[int, int]
    spared: tuple[int, int]
    head: int
    head_trained: bool
    vocabulary: int
    depth: int
    width: int
    inner: int
    queries: int
    keys: int
    heads: int
    lm_trained: bool
    rank: int
    tower: tuple[int, int, int]
    picture: int
    seen: int
    tower_trained: bool

    @property
    def numbers(self) -> int:
        """All there are."""
        return sum(part.numbers for part in self.parts)

    @property
    def trained_numbers(self) -> int:
        """All that learn."""
        return sum(tensor.numbers for tensor in self.trained)

    def of(self, name: str, *, trained: bool | None = None) -> int:
        """Numbers of a part, or of what of it learns (or does not)."""
        return sum(part.numbers for part in self.parts if part.name == name and trained in (None, part.trained))

    def frozen_bytes(self) -> Mapping[str, int]:
        """Bytes of what does not learn, by part."""
        return {part.name: part.held for part in self.parts if not part.trained}


def model_sizes(config: LlavaConfig, recipe: Recipe, *, precision: str) -> ModelSizes:
    """Read off a skeleton of `config`, prepared for `recipe`.

    Args:
        precision: fp32, bf16 or fp16, in which weights that do not learn are held; those of the language model's layers
            as the recipe's `quantise` says.

    Raises:
        UsageError: as `prepare_parts` says.
    """
    net, word_table = _skeleton(config, recipe)
    linear = _linear_weights(net)
    size = HELD[precision]
    numbers: dict[tuple[str, bool], int] = {}
    held: dict[tuple[str, bool], int] = {}
    for name, parameter in net.named_parameters():
        key = _part_of(name, parameter, word_table), parameter.requires_grad
        quantised = recipe.quantise != "none" and name in linear and not parameter.requires_grad
        each = size if not parameter.requires_grad else 4
        weight = layer_bytes(linear[name], recipe.quantise, size) if quantised else each * parameter.numel()
        numbers[key] = numbers.get(key, 0) + parameter.numel()
        held[key] = held.get(key, 0) + weight
    trained = [(name, one) for name, one in net.named_parameters() if one.requires_grad]
    matrices = {name: one for name, one in net.model.language_model.named_parameters() if _multiplies(one, word_table)}
    layers = max(1, config.text_config.num_hidden_layers)
    text, vision = config.text_config, config.vision_config
    heads = int(text.num_attention_heads)
    head_width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return ModelSizes(
        parts=tuple(PartSize(*key, numbers[key], held[key]) for key in numbers),
        trained=tuple(TrainedTensor(one.numel(), one is word_table) for _, one in trained),
        matrices=sum(one.numel() for one in matrices.values()),
        trained_matrices=sum(one.numel() for one in matrices.values() if one.requires_grad),
        largest=(
            max((one.numel() for one in matrices.values()), default=0),
            sum(one.numel() for one in matrices.values()) // layers,
        ),
        spared=_spared(net, matrices),
        head=net.lm_head.weight.numel(),
        head_trained=net.lm_head.weight.requires_grad,
        vocabulary=int(text.vocab_size),
        depth=int(text.num_hidden_layers),
        width=int(text.hidden_size),
        inner=int(text.intermediate_size),
        queries=heads * head_width,
        keys=int(getattr(text, "num_key_value_heads", None) or heads) * head_width,
        heads=heads,
        lm_trained=any(name.startswith("model.language_model.") and ".lora_" not in name for name, _ in trained),
        rank=recipe.lora_rank,
        tower=(int(vision.num_hidden_layers), int(vision.hidden_size), _inner_width(vision)),
        picture=int(config.image_seq_length),
        seen=int(config.image_seq_length) + (config.vision_feature_select_strategy == "default"),
        tower_trained=any(name.startswith("model.vision_tower.") for name, _ in trained),
    )


def _skeleton(config: LlavaConfig, recipe: Recipe) -> tuple[Any, Any]:
    """A model of shapes alone, its parts prepared; and its word table."""
    import torch
    from transformers import LlavaForConditionalGeneration

    plain = copy.deepcopy(config)
    for part in (plain, plain.text_config, plain.vision_config):
        if getattr(part, "quantization_config", None) is not None:
            del part.quantization_config
    with torch.device("meta"):
        net: Any = LlavaForConditionalGeneration._from_config(plain, attn_implementation="sdpa")
        prepare_parts(net, recipe, seed=0)
    return net, net.get_input_embeddings().weight


def _linear_weights(net: Any) -> dict[str, tuple[int, int]]:
    """The language model's own linear layers, which quantising changes: (outputs, inputs) by the weight's name."""
    import torch

    return {
        f"model.language_model.{name}.weight": tuple(part.weight.shape)
        for name, part in net.model.language_model.named_modules()
        if isinstance(part, torch.nn.Linear) and ".lora_" not in name
    }


def _part_of(name: str, parameter: Any, word_table: Any) -> str:
    if ".lora_" in name:
        return LOW_RANK
    if "multi_modal_projector" in name:
        return PROJECTOR
    if "vision_tower" in name:
        return TOWER
    return VOCABULARY if parameter is word_table or name.startswith("lm_head.") else LANGUAGE_MODEL


def _multiplies(parameter: Any, word_table: Any) -> bool:
    """Whether a parameter of the language model is a matrix that states are multiplied by."""
    return parameter.ndim == 2 and parameter is not word_table


def _spared(net: Any, matrices: dict[str, Any]) -> tuple[int, int]:
    """Numbers of the last layer's perceptron, where it is of a kind that is spared; and of those, what learns."""
    layers = net.model.language_model.layers
    if not hasattr(getattr(layers[-1], "mlp", None), "down_proj"):
        return 0, 0
    last = [one for name, one in matrices.items() if name.startswith(f"layers.{len(layers) - 1}.mlp.")]
    return sum(one.numel() for one in last), sum(one.numel() for one in last if one.requires_grad)


def _inner_width(vision: Any) -> int:
    """DINOv2 states a ratio where the others state a width."""
    return getattr(vision, "intermediate_size", None) or int(vision.hidden_size * vision.mlp_ratio)
