"""How many tokens may be answered on at once: what fits the memory that the model leaves free."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.free_memory import free_memory

if TYPE_CHECKING:
    from llavamed_cli.model.load import LoadedModel

KEPT, READ = 0.5, 0.25
"""Shares of the free memory for kept keys and values, and for a row that is read."""
MOST_READ = {"cuda": 16_384, "cpu": 2_048, "mps": 4_096}
"""Beyond these, rows are not read faster."""
LEAST = 256
NEIGHBOURS = "LOCAL_WORLD_SIZE"
"""How many processes share this machine's memory, as torchrun and accelerate say it."""


@dataclass(frozen=True)
class AnswerRoom:
    """kept: tokens whose keys and values fit at once. read: tokens of a row that goes through the model at once."""

    kept: int
    read: int


def answer_room(loaded: LoadedModel) -> AnswerRoom:
    """What fits now, by arithmetic.

    A kept token takes two vectors a layer; a token that is read takes, in one layer, the residual stream, its norms,
    queries, keys and values, and the perceptron's three (as `memory_plan` counts).
    """
    model: Any = loaded.model
    words = model.config.text_config
    heads = words.num_attention_heads
    width = getattr(words, "head_dim", None) or words.hidden_size // heads
    inner = getattr(words, "intermediate_size", None) or 4 * words.hidden_size
    size = model.dtype.itemsize
    kept = 2 * words.num_hidden_layers * (getattr(words, "num_key_value_heads", None) or heads) * width * size
    read = (6 * words.hidden_size + 3 * inner) * size
    free = free_memory(loaded.device).bytes
    if loaded.device != "cuda":
        free //= int(os.environ.get(NEIGHBOURS, "1"))
    return AnswerRoom(
        kept=max(LEAST, int(KEPT * free) // kept),
        read=max(LEAST, min(MOST_READ[loaded.device], int(READ * free) // read)),
    )
