"""One packed row through the model: the sum of its supervised tokens' losses, and no logits that no one grades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llavamed_cli.model.last_layer import spare_last_layer
from llavamed_cli.model.segment_attention import FLEX, LOOP, VARLEN
from llavamed_cli.training.head_loss import head_loss
from llavamed_cli.training.layout import PackedRow

if TYPE_CHECKING:
    import torch


def row_loss(model: Any, row: PackedRow, features: torch.Tensor | None) -> torch.Tensor:
    """Sum of cross-entropies over a row's supervised tokens (a scalar; the caller divides by the step's token count).

    Args:
        model: a LlavaForConditionalGeneration, possibly with LoRA layers inside, that attends by segments
            (`segment_attention.use_segments`); where it attends otherwise, no samples may share a prefix.
        features: the tower's features of the row's pictures [n, tokens, tower width]; None where it has none.
    """
    graded = row.predictors.unique()
    states = row_states(model, row, features, graded)
    return head_loss(model.lm_head, states.index_select(0, row.predictors), row.targets)


def row_states(
    model: Any, row: PackedRow, features: torch.Tensor | None, graded: torch.Tensor | None = None
) -> torch.Tensor:
    """The language model's last states of a row's tokens [T, width].

    No attention mask and no cache are given on purpose: a model that does not attend by segments then reads the borders
    between samples off `position_ids`. A mask of ones, or a cache, would silently let samples see each other.
    """
    core = model.model
    spare_last_layer(core.language_model)
    if row.segments.shared and core.language_model.config._attn_implementation not in (LOOP, VARLEN, FLEX):
        raise ValueError("a row of samples that share a prefix needs a model that attends by segments")
    inputs = core.get_input_embeddings()(row.input_ids)
    if features is not None:
        projector = core.multi_modal_projector
        pictures = projector(features.to(projector.linear_1.weight.dtype)).to(inputs.dtype)
        places = (row.input_ids == model.config.image_token_id)[..., None].expand_as(inputs)
        inputs = inputs.masked_scatter(places, pictures)
    states: torch.Tensor = core.language_model(
        inputs_embeds=inputs,
        position_ids=row.position_ids,
        segments=row.segments,
        graded=graded,
        attention_mask=None,
        use_cache=False,
    ).last_hidden_state
    return states[0]
