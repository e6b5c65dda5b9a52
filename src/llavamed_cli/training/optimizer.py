"""AdamW over what learns: the projector at its own rate, no decay of biases and norms, moments in 32 or 8 bits.

8 bits (arXiv 2110.02861) take 2 bytes a parameter where 32 take 8; small tensors and word tables keep 32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import UsageError
from llavamed_cli.model.quantise import has_bitsandbytes
from llavamed_cli.training.parts import trained_parameters
from llavamed_cli.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import LlavaForConditionalGeneration

MOMENT_BYTES = {"adamw": 8, "adamw8bit": 2}
"""What an optimiser keeps of each number that learns, beside its weight and gradient."""


def make_optimizer(model: LlavaForConditionalGeneration, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameters that learn; each group holds its highest rate as `peak`.

    Raises:
        UsageError: 8 bits were asked for, and bitsandbytes is not installed.
    """
    import torch

    need_optimizer(recipe)
    groups = _groups(model, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    from bitsandbytes.optim import AdamW8bit, GlobalOptimManager

    net: Any = model
    table = net.get_input_embeddings().weight
    exceptions = GlobalOptimManager.get_instance()
    exceptions.initialize()  # it is one for the whole process, and knows parameters by their addresses
    exceptions.override_config(table, "optim_bits", 32)  # as bitsandbytes advises
    made: torch.optim.Optimizer = AdamW8bit(groups)
    return made


def need_optimizer(recipe: Recipe) -> None:
    """Raise what `make_optimizer` would, before a model is loaded for it."""
    if recipe.optimizer == "adamw8bit" and not has_bitsandbytes():
        raise UsageError(
            "adamw8bit needs bitsandbytes, which is not installed",
            where="optimizer",
            hint='pip install bitsandbytes (there is none for macOS), or optimizer = "adamw".',
        )


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set each group's learning rate to `share` of its highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def _groups(model: LlavaForConditionalGeneration, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters by rate and decay, in the order of their names in the model."""
    projector_rate = recipe.projector_learning_rate or recipe.learning_rate
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in trained_parameters(model).items():
        rate = projector_rate if "multi_modal_projector." in name else recipe.learning_rate
        decay = recipe.weight_decay if parameter.ndim > 1 else 0.0  # biases and norms are vectors
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
