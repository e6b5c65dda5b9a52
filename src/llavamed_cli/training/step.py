"""One packed row through the model: the sum of its supervised tokens' losses, and no logits that no one grades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llavamed_cli.training.packing import PackedRow

if TYPE_CHECKING:
    import torch


def row_loss(model: Any, row: PackedRow, features: torch.Tensor | None) -> torch.Tensor:
    """Sum of cross-entropies over a row's supervised tokens (a scalar; the caller divides by the step's token count).

    Args:
        model: a LlavaForConditionalGeneration, possibly with LoRA layers inside.
        features: the tower's features of the row's pictures [n, tokens, tower width]; None where it has none.

    No attention mask and no cache are given on purpose: transformers then reads the borders between examples off
    `position_ids`. A mask of ones, or a cache, would silently let examples see each other.
    """
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    pictures = None
    if features is not None:
        projected = model.model.multi_modal_projector(
            features.to(model.model.multi_modal_projector.linear_1.weight.dtype)
        )
        pictures = {"image": BaseModelOutputWithPooling(pooler_output=list(projected))}
    logits = model(
        input_ids=row.input_ids,
        position_ids=row.position_ids,
        attention_mask=None,
        use_cache=False,
        mm_encoder_outputs=pictures,
        logits_to_keep=row.predictors,
    ).logits
    return torch.nn.functional.cross_entropy(logits[0].float(), row.targets, reduction="sum")
