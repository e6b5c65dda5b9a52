"""A tensor known by its shape and number format, and read when it is wanted: planning a 7B model costs nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LazyTensor:
    """A tensor still on disk, or a rule that makes one from others.

    It answers as a slice of a safetensors file does (`get_shape`, `get_dtype`, `[...]`), which is what transformers'
    `from_pretrained(state_dict=...)` reads one tensor at a time.

    Raises: whatever reading raises, when it is read.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor] = field(repr=False)

    @classmethod
    def of(cls, tensor: torch.Tensor) -> LazyTensor:
        """One that is in memory already."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor)

    def map(self, change: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...] | None = None) -> LazyTensor:
        """The tensor that `change` makes of this one, of `shape` where that differs; the number format stays."""
        return LazyTensor(shape or self.shape, self.dtype, lambda: change(self.read()).to(self.dtype))

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def get_shape(self) -> list[int]:
        """As safetensors names it."""
        return list(self.shape)

    def get_dtype(self) -> str:
        """As safetensors names it: F32, BF16, I64."""
        import torch

        names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
        return names.get(self.dtype) or f"I{8 * self.dtype.itemsize}"

    def __getitem__(self, place: Any) -> torch.Tensor:
        return self.read()[place]
