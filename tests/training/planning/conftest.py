"""A LLaVA's config whose sizes stand here, and samples as planning sees them: lengths without tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy
import pytest
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

PICTURE = 16
"""Tokens of one."""


@dataclass(frozen=True)
class Lengths:
    """Samples of these lengths; `of` names each one's picture, -1 for none; `prefix` tokens stand up to its end."""

    lengths_: tuple[int, ...]
    of: tuple[int, ...]
    learned: tuple[int, ...]
    prefix: int = PICTURE + 2

    @cached_property
    def lengths(self) -> numpy.ndarray:
        return numpy.asarray(self.lengths_, dtype=numpy.int64)

    @cached_property
    def supervised(self) -> numpy.ndarray:
        return numpy.asarray(self.learned, dtype=numpy.int64)

    @cached_property
    def picture_keys(self) -> numpy.ndarray:
        return numpy.asarray(self.of, dtype=numpy.int64)

    @cached_property
    def picture_counts(self) -> numpy.ndarray:
        return (self.picture_keys >= 0).astype(numpy.int64)

    @cached_property
    def prefix_lengths(self) -> numpy.ndarray:
        return self.prefix * self.picture_counts

    @property
    def pictures(self) -> int:
        return len(set(self.of) - {-1})


def _llava(**text: Any) -> LlavaConfig:
    """Width 128, 6 layers, 4 heads that share 2 keys, 1,024 words that are a table and a head apart."""
    sizes: dict[str, Any] = {
        "vocab_size": 1024,
        "hidden_size": 128,
        "intermediate_size": 344,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    vision = CLIPVisionConfig(
        hidden_size=48, intermediate_size=96, image_size=32, patch_size=8, num_hidden_layers=2, num_attention_heads=4
    )
    words = LlamaConfig(**{**sizes, **text})
    return LlavaConfig(text_config=words, vision_config=vision, image_token_index=1023, image_seq_length=PICTURE)


@pytest.fixture
def llava() -> Callable[..., LlavaConfig]:
    """Makes the config, with other sizes of the language model where they are given."""
    return _llava


@pytest.fixture
def config() -> LlavaConfig:
    return _llava()


@pytest.fixture
def lengths() -> type[Lengths]:
    """Makes samples out of lengths."""
    return Lengths


@pytest.fixture
def samples() -> Lengths:
    """Three about one picture, one about another, one about none."""
    return Lengths((30, 26, 40, 36, 20), of=(0, 0, 0, 1, -1), learned=(5, 3, 9, 7, 6))
