"""Cross-entropy over a vocabulary, a few positions at a time: never all logits at once, nor all of their gradient.

Where gradients are wanted they are found on the way forward, while a piece's logits are at hand, and the logits are
dropped (as Liger Kernel does, arXiv 2410.10989, section 3.2). That costs no arithmetic, where computing the logits
again on the way back would cost a third more; the price is one more copy of the head's gradient, where the head learns.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LOGITS_AT_ONCE = 2**24
"""64 MiB in fp32: 500 positions of 32,000 words, enough for the matrix product to run at full speed."""


def head_loss(head: Any, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of cross-entropies of `targets` (int64 [S]) under the head's logits of `states` [S, width]: a scalar, fp32.

    A plain linear head (a table of [words, width]) goes the fast way. One that is quantised, adapted, or gathered from
    other processes when it is called (FSDP, DeepSpeed) is called, and called again on the way back.
    """
    import torch

    rows = max(1, LOGITS_AT_ONCE // head.out_features)
    if _is_plain(head):
        learned = states, head.weight
        if torch.is_grad_enabled() and any(one.requires_grad for one in learned):
            loss: torch.Tensor = _fused().apply(states, head.weight, targets, rows)
            return loss
        return _loss_and_gradients(states, head.weight, targets, rows, (False, False))[0]
    return _called_twice(head, states, targets, rows)


def _is_plain(head: Any) -> bool:
    import torch

    linear = type(head) is torch.nn.Linear and type(head.weight) is torch.nn.Parameter and head.bias is None
    return linear and not head._forward_pre_hooks and not head._forward_hooks


def _called_twice(head: Any, states: torch.Tensor, targets: torch.Tensor, rows: int) -> torch.Tensor:
    import torch
    from torch.utils.checkpoint import checkpoint

    def loss_of(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(head(states).float(), targets, reduction="sum")

    if len(targets) <= rows:
        return loss_of(states, targets)
    pieces = zip(states.split(rows), targets.split(rows), strict=True)
    losses: list[torch.Tensor] = [checkpoint(loss_of, *piece, use_reentrant=False) for piece in pieces]
    return torch.stack(losses).sum()


@cache
def _fused() -> Any:
    import torch
    from torch.autograd.function import once_differentiable

    class HeadLoss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, states: Any, table: Any, targets: Any, rows: int) -> torch.Tensor:
            loss, *gradients = _loss_and_gradients(states, table, targets, rows, ctx.needs_input_grad[:2])
            ctx.dtypes = states.dtype, table.dtype
            ctx.save_for_backward(*gradients)
            return loss

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, outer: torch.Tensor) -> Any:
            gradients = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
            states, table = (None if one is None else one.mul_(outer).to(dtype) for one, dtype in gradients)
            return states, table, None, None

    return HeadLoss


def _loss_and_gradients(
    states: torch.Tensor, table: torch.Tensor, targets: torch.Tensor, rows: int, wanted: tuple[bool, bool]
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The summed loss, and its gradient by `states` and by `table` where they are wanted.

    Products are computed in autocast's format where it is on; losses, and the sum of the table's gradient, in fp32.
    """
    import torch

    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else table.dtype
    exact = torch.promote_types(dtype, torch.float32)
    with torch.no_grad(), torch.autocast(device, enabled=False):
        words, inputs = table.to(dtype), states.to(dtype)
        total = torch.zeros((), dtype=exact, device=states.device)
        by_states = torch.empty_like(inputs) if wanted[0] else None
        by_table: torch.Tensor | None = None
        for start in range(0, len(targets), rows):
            piece, words_wanted = inputs[start : start + rows], targets[start : start + rows, None]
            scores = (piece @ words.T).to(exact)  # [rows, words]; in place from here on
            scores -= scores.amax(dim=1, keepdim=True)
            total -= scores.gather(1, words_wanted).sum()
            sums = scores.exp_().sum(dim=1, keepdim=True)
            total += sums.log().sum()
            if not any(wanted):
                continue
            scores /= sums
            scores.scatter_add_(1, words_wanted, scores.new_full((1, 1), -1.0).expand_as(words_wanted))
            by_logits = scores.to(dtype)
            if by_states is not None:
                torch.mm(by_logits, words, out=by_states[start : start + rows])
            if wanted[1] and by_table is None:
                by_table = (by_logits.T @ piece).to(exact)
            elif by_table is not None and dtype == exact:
                by_table.addmm_(by_logits.T, piece)
            elif by_table is not None:
                by_table += by_logits.T @ piece
    return total, by_states, by_table
