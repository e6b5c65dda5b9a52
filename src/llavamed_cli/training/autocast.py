"""What a model in training computes in: weights that learn are held in fp32 and computed with in bf16 or fp16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from llavamed_cli.model.precision import torch_dtype

if TYPE_CHECKING:
    from llavamed_cli.model.load import LoadedModel


def computing(loaded: LoadedModel) -> AbstractContextManager[object]:
    """Torch's autocast to the precision that was chosen; nothing where that is fp32."""
    import torch

    precision = loaded.choices["precision"].value
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(loaded.device, dtype=torch_dtype(precision))
