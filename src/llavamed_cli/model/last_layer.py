"""The last layer's feed-forward part, at graded positions alone: what it makes of others, nobody reads.

Attention mixes positions, the feed-forward part does not; after the last layer's nothing mixes them any more. Of a
model of 32 layers that is a fortieth of all arithmetic where few tokens are graded, for two hooks. It costs nothing in
exactness: the positions left out get zeros, and neither loss nor any gradient depends on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GRADED = "graded"
"""The forward's keyword for the graded positions, int64 [S], each once; without it all are computed."""


def spare_last_layer(words: Any) -> None:
    """Let a language model read `graded=`; once set up, nothing changes. Layers of experts are left as they are.

    It is read where the last layer attends: gradient checkpointing calls that again, and what lies around it not.
    """
    layer = words.layers[-1]
    part: Any = getattr(layer, "mlp", None)
    if not hasattr(part, "down_proj") or hasattr(part, "_spares"):
        return
    part._spares = True
    under_way: list[tuple[torch.Tensor, int]] = []

    def begin(module: Any, inputs: Any, options: dict[str, Any]) -> None:
        under_way.clear()
        if options.get(GRADED) is not None:
            under_way.append((options[GRADED], 0))

    def choose(module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        if not under_way:
            return None
        places, _ = under_way.pop()
        under_way.append((places, inputs[0].shape[1]))
        return (inputs[0].index_select(1, places),)

    def spread(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        if not under_way:
            return None
        places, length = under_way.pop()
        whole = output.new_zeros(output.shape[0], length, output.shape[2])
        return whole.index_copy(1, places, output)

    layer.self_attn.register_forward_pre_hook(begin, with_kwargs=True)
    part.register_forward_pre_hook(choose)
    part.register_forward_hook(spread)
