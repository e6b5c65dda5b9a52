"""What training takes in memory, part by part, each with its arithmetic.

Weights, gradients and the optimiser's moments are exact to the byte. Activations are counted tensor by tensor as
autograd keeps them, after Korthikanti et al. (arXiv 2205.05198, section 4), for a layer as Llama has it: no dropout, a
gated perceptron, and attention that keeps no scores (FlashAttention, arXiv 2205.14135, algorithm 1). What kernels take
for a moment is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llavamed_cli.model.precision import GB
from llavamed_cli.training.features import PICTURES_AT_ONCE
from llavamed_cli.training.head_loss import LOGITS_AT_ONCE
from llavamed_cli.training.planning.model_sizes import HELD, PROJECTOR, VOCABULARY, ModelSizes

if TYPE_CHECKING:
    from llavamed_cli.training.recipe import Recipe

GATHERED_AT_ONCE = 2
"""Layers whose shards FSDP has put together: the one at work and the next one, fetched meanwhile (arXiv 2304.11277)."""


def size_text(size: int) -> str:
    """Bytes for a person."""
    return f"{size / GB:,.2f} GB" if size >= 0.1 * GB else f"{size / 10**6:.1f} MB"


@dataclass(frozen=True)
class RowSize:
    """The largest row that a step holds: its tokens, how many are learned, its pictures.

    keys: how many keys its attention reads, which are more than its tokens where branches repeat their prefix's.
    """

    tokens: int
    learned: int
    pictures: int
    keys: int


@dataclass(frozen=True)
class MemoryPart:
    """Bytes on one device, what they are for, and how they were counted. lasting: held from step to step."""

    name: str
    bytes: int
    how: str
    lasting: bool = False


@dataclass(frozen=True)
class TrainingMemory:
    """What one device holds at the worst moment of a step. sharded: FSDP has divided weights over `cards`."""

    parts: tuple[MemoryPart, ...]
    cards: int
    sharded: bool

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(part.bytes for part in self.parts)

    @property
    def lasting(self) -> int:
        """What is held from step to step, whatever a row holds."""
        return sum(part.bytes for part in self.parts if part.lasting)

    def lines(self) -> list[str]:
        """A part a line, with its arithmetic."""
        rows = [(part.name, part.bytes, part.how) for part in self.parts if part.bytes]
        where = f"in all, on each of {self.cards} devices" if self.cards > 1 else "in all"
        return [
            f"{name:<34}{size_text(size):>11}  {how}".rstrip() for name, size, how in [*rows, (where, self.total, "")]
        ]


def training_memory(
    sizes: ModelSizes,
    recipe: Recipe,
    row: RowSize,
    *,
    precision: str,
    device: str,
    cards: int = 1,
    sharded: bool = False,
) -> TrainingMemory:
    """What a step takes on one of `cards` devices.

    Args:
        precision: what is computed in: fp32, bf16 or fp16. What learns is held in fp32 all the same, and computed with
            as a copy (autocast).
        device: cuda, or another; kernels differ.
        sharded: FSDP's full shard; otherwise each device has it all (one device, or DDP).
    """
    parts = [*_held(sizes, recipe, cards if sharded else 1), *_of_processes(sizes, precision, cards, sharded=sharded)]
    parts += _activations(sizes, recipe, row, precision, device)
    moments = (
        [_copies(sizes, precision, sharded=sharded), _logits(sizes, row, precision)],
        [
            _copies(sizes, precision, sharded=sharded, layers=1 if recipe.gradient_checkpointing else None),
            _layer_backwards(sizes, recipe, row, precision, device),
        ],
        [_looking(sizes, row, precision, device)],
    )
    parts += max(moments, key=lambda held: sum(part.bytes for part in held))
    return TrainingMemory(tuple(parts), cards, sharded)


def _held(sizes: ModelSizes, recipe: Recipe, shards: int) -> list[MemoryPart]:
    """Weights, gradients and moments: 4 + 4 + 8 bytes of a number that learns, with AdamW in 32 bits (as ZeRO counts
    them, arXiv 1910.02054, section 3.1, but with weights and gradients in fp32)."""
    learned, over = sizes.trained_numbers, f" / {shards} devices" if shards > 1 else ""
    moments = sum(tensor.moments(recipe.optimizer) for tensor in sizes.trained)
    frozen = [
        (f"weights, {name}", size, _frozen_how(sizes, recipe, name)) for name, size in sizes.frozen_bytes().items()
    ]
    learning = [
        ("weights that learn", 4 * learned, f"{learned:,} x 4 bytes"),
        ("their gradients", 4 * learned, f"{learned:,} x 4 bytes"),
        (f"moments of {recipe.optimizer}", moments, f"{learned:,} x {moments / max(1, learned):.3g} bytes"),
    ]
    return [MemoryPart(name, size // shards, how + over, lasting=True) for name, size, how in [*frozen, *learning]]


def _frozen_how(sizes: ModelSizes, recipe: Recipe, name: str) -> str:
    numbers, size = sizes.of(name, trained=False), sizes.frozen_bytes()[name]
    quantised = ", quantised" if recipe.quantise != "none" and size / numbers not in HELD.values() else ""
    return f"{numbers:,} x {size / numbers:.3g} bytes{quantised}"


def _of_processes(sizes: ModelSizes, precision: str, cards: int, *, sharded: bool) -> list[MemoryPart]:
    """What several devices need of each other: FSDP the layers at work whole, DDP gradients under way."""
    size, learned = HELD[precision], sizes.trained_numbers
    if sharded:
        _, layer = sizes.largest
        table = sizes.of(VOCABULARY)
        how = f"({GATHERED_AT_ONCE} layers of {layer:,} + vocabulary of {table:,}) x {size} bytes"
        return [MemoryPart("layers gathered by FSDP", (GATHERED_AT_ONCE * layer + table) * size, how)]
    if cards > 1:
        return [MemoryPart("gradients under way (DDP)", 4 * learned, f"{learned:,} x 4 bytes")]
    return []


def _copies(sizes: ModelSizes, precision: str, *, sharded: bool, layers: int | None = None) -> MemoryPart:
    """Autocast's copies of weights that learn, of all or of some layers; FSDP gathers such copies to begin with."""
    size, matrices = HELD[precision], sizes.trained_matrices
    if layers is None:
        matrices += sizes.of(PROJECTOR, trained=True) + (sizes.head if sizes.head_trained else 0)
    else:
        matrices = matrices // sizes.depth * layers
    held = 0 if sharded or size == 4 else matrices * size
    return MemoryPart(f"for a moment: copies in {precision}", held, f"{matrices:,} x {size} bytes, autocast")


def layer_bytes_a_token(
    sizes: ModelSizes, recipe: Recipe, precision: str, device: str, keys_a_token: float = 1.0
) -> int:
    """Bytes that one layer of the language model keeps of a token until its gradient is computed.

    s is the bytes of a number in `precision`, h the width of states, q and k those of queries and keys, m the inner
    one:

    - two norms: what each divides, in fp32, 2 x 4h; what it made of it, 2 x 4h or 2 x s h, where its scale learns;
    - attention: queries, output (2 s q), keys and values (2 s k), a sum of each head in fp32;
    - perceptron: gate, its activation, up (3 s m);
    - inputs of matrices that learn, by themselves or by low-rank additions: of q, k, v and of gate, up (s h each), of
      the output matrix (s q) and of down (s m). In fp32 q, k and v share one, and gate and up; autocast makes a copy
      for each. Low-rank additions keep what lies between their halves as well (s r each), and what dropout left out (a
      byte of each input on CUDA, four elsewhere).
    """
    s, h, q, k, m = HELD[precision], sizes.width, sizes.queries, sizes.keys, sizes.inner
    total = 2 * 4 * h + 2 * s * q + int(2 * s * k * keys_a_token) + 4 * sizes.heads + 3 * s * m
    if not (sizes.lm_trained or sizes.rank):
        return total
    copied = s < 4
    total += s * ((5 if copied else 2) * h + q + m)
    if sizes.lm_trained:
        total += 2 * 4 * h
    if sizes.rank:
        total += 7 * s * sizes.rank
        if recipe.lora_dropout:
            total += (1 if device == "cuda" else 4) * (5 * h + q + m) + (0 if copied else s * (3 * h))
    return total


def _layer(sizes: ModelSizes, recipe: Recipe, row: RowSize, precision: str, device: str) -> int:
    return layer_bytes_a_token(sizes, recipe, precision, device, row.keys / max(1, row.tokens))


def _activations(sizes: ModelSizes, recipe: Recipe, row: RowSize, precision: str, device: str) -> list[MemoryPart]:
    size = HELD[precision]
    each = _layer(sizes, recipe, row, precision, device)
    state = (4 if sizes.lm_trained else size) * sizes.width
    if recipe.gradient_checkpointing:  # layers' inputs alone; `_layer_backwards` holds the one computed again
        each = state
    kept, how = row.tokens * sizes.depth * each, f"{row.tokens:,} tokens x {sizes.depth} layers x {each:,} bytes"
    ends = row.tokens * (3 * state + 4 * sizes.width)  # word vectors with pictures put in, the last norm, the result
    pictures = row.pictures * sizes.picture * size * (sizes.tower[1] + 3 * sizes.width)
    parts = [MemoryPart("activations of layers", kept, how)]
    parts.append(MemoryPart("activations before and after", ends + pictures, "word vectors, projector, last norm"))
    if sizes.tower_trained:
        layers, width, inner = sizes.tower
        each = 4 * (8 * width + 2 * inner)
        kept = row.pictures * sizes.seen * layers * each
        parts.append(
            MemoryPart(
                "activations of the tower", kept, f"{row.pictures} pictures x {sizes.seen} x {layers} x {each:,}"
            )
        )
    return parts


def _logits(sizes: ModelSizes, row: RowSize, precision: str) -> MemoryPart:
    """Of some positions at a time, with their gradients; and the gradient of the head, where it learns."""
    size = HELD[precision]
    logits = min(row.learned * sizes.vocabulary, max(LOGITS_AT_ONCE, sizes.vocabulary))
    held = logits * (4 if size == 4 else 4 + 2 * size) + 2 * row.learned * sizes.width * size
    held += sizes.head * (4 + (2 * size if size < 4 else 0)) if sizes.head_trained else 0
    head = f", and the gradient of {sizes.head:,} of the head" if sizes.head_trained else ""
    return MemoryPart("for a moment: logits", held, f"{logits:,} at once{head}")


def _layer_backwards(sizes: ModelSizes, recipe: Recipe, row: RowSize, precision: str, device: str) -> MemoryPart:
    """A layer's gradients, the layer itself where it is computed again, and the largest weight where it is packed."""
    size = HELD[precision]
    each = size * 2 * (sizes.inner + sizes.queries) + (3 * 4 * sizes.width if size < 4 else 0)
    each += _layer(sizes, recipe, row, precision, device) if recipe.gradient_checkpointing else 0
    packed = recipe.quantise == "4bit"
    unpacked = f", and a weight of {sizes.largest[0]:,} unpacked" if packed else ""
    return MemoryPart(
        "for a moment: a layer, backwards",
        row.tokens * each + (sizes.largest[0] * size if packed else 0),
        f"{row.tokens:,} tokens x {each:,} bytes{unpacked}",
    )


def _looking(sizes: ModelSizes, row: RowSize, precision: str, device: str) -> MemoryPart:
    """A frozen tower's states in all its layers, and one perceptron, of the pictures that it sees at a time."""
    layers, width, inner = sizes.tower
    pictures = 0 if sizes.tower_trained else min(row.pictures, PICTURES_AT_ONCE if device == "cuda" else 1)
    held = pictures * sizes.seen * (width * (layers + 5) + 2 * inner) * HELD[precision]
    return MemoryPart("for a moment: the tower", held, f"{pictures} pictures x {sizes.seen} tokens")
