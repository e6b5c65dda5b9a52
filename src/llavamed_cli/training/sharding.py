"""A model too large for one GPU, its weights, gradients and moments split over the processes: FSDP2, as torch has it.

`accelerate launch` with an FSDP configuration says how (which layers are gathered as one, whether they are let go
between forward and backward, whether they wait in main memory); the splitting is torch's `fully_shard`, which works on
a CPU as on a GPU. What it asks of a loop: every process leads equally many rows through the model, and each row touches
every weight that learns.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import UsageError
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.precision import torch_dtype
from llavamed_cli.training.autocast import computing
from llavamed_cli.training.features import tower_dtype, tower_features
from llavamed_cli.training.layout import PackedRow
from llavamed_cli.training.learner import See
from llavamed_cli.training.optimizer import make_optimizer, set_rates
from llavamed_cli.training.parts import tower_learns, trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.step import row_loss
from llavamed_cli.world import World

if TYPE_CHECKING:
    import torch

ASKED = "ACCELERATE_USE_FSDP"
"""Set to "true" by `accelerate launch` where its configuration says FSDP; FSDP_* variables say the rest."""
PICTURE_PARTS = ("multi_modal_projector.", "vision_tower.")


def asked_to_shard() -> bool:
    """Whether accelerate was configured to split the weights up."""
    return os.environ.get(ASKED, "false").lower() == "true"


class Sharded:
    """A model whose layers are gathered one at a time, where a row comes to them."""

    sharded = True

    def __init__(self, loaded: LoadedModel, recipe: Recipe, world: World) -> None:
        _require_shardable(loaded, recipe)
        self._loaded = loaded
        self._size = world.size
        self._rows = _rows_module(loaded)
        _split(self._rows, loaded, world)
        self._parameters = trained_parameters(loaded.model)
        self._optimizer = make_optimizer(loaded.model, recipe)

    def add(self, row: PackedRow, see: See, learned: int) -> float:
        with computing(self._loaded):
            loss = self._rows(row, see) / learned
        (loss * self._size).backward()  # the gradients of all processes are averaged on the way
        return float(loss.detach())

    def pad(self, row: PackedRow, see: See) -> None:
        with computing(self._loaded):
            (self._rows(row, see) * 0).backward()

    def step(self, share: float, max_norm: float, *, pictures: bool) -> float:
        import torch

        set_rates(self._optimizer, share)
        if not pictures:  # then one process would have no gradient of these, and leave them alone
            for name, parameter in self._parameters.items():
                if any(part in name for part in PICTURE_PARTS):
                    parameter.grad = None
        learned = [parameter for parameter in self._parameters.values() if parameter.grad is not None]
        if not learned:
            return 0.0
        total: Any = torch.nn.utils.clip_grad_norm_(learned, max_norm)
        norm = float(total.full_tensor() if hasattr(total, "full_tensor") else total)
        if math.isfinite(norm):
            self._optimizer.step()
        self.drop()
        return norm

    def drop(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def weights(self) -> Mapping[str, torch.Tensor]:
        return {name: _local(parameter) for name, parameter in self._parameters.items()}

    def states(self) -> Mapping[str, Any]:
        found = self._optimizer.state_dict()
        state = {
            number: {name: _local(value) for name, value in moments.items()}
            for number, moments in found["state"].items()
        }
        return {"optimizer": {**found, "state": state}}

    def restore(self, weights: Mapping[str, torch.Tensor], states: Mapping[str, Any] | None = None) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._parameters.items():
                _local(parameter).copy_(weights[name])
        if states is None:
            return
        held = states["optimizer"]
        order = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        state = {
            number: {name: _sharded_like(value, order[number]) for name, value in moments.items()}
            for number, moments in held["state"].items()
        }
        self._optimizer.load_state_dict({**held, "state": state})

    @contextmanager
    def resting(self, world: World) -> Iterator[bool]:
        """All processes go through the same in step: each layer is gathered by all where it is reached."""
        root: Any = self._rows
        root.unshard()
        try:
            yield True
        finally:
            root.reshard()

    def gather(self, world: World) -> None:
        import torch
        from torch.distributed.fsdp import FSDPModule

        whole: dict[int, torch.nn.Parameter] = {}  # a head tied to the word table stays so
        model: Any = self._loaded.model
        for part in model.modules():
            if isinstance(part, FSDPModule):
                part.__class__ = type(part).__bases__[1]  # what it was before it was split
            for name, parameter in part._parameters.items():
                if hasattr(parameter, "full_tensor"):
                    if id(parameter) not in whole:
                        full = parameter.detach().full_tensor()
                        kept = full.cpu() if world.leads else torch.empty(0, dtype=full.dtype)
                        whole[id(parameter)] = torch.nn.Parameter(kept, parameter.requires_grad)
                    part._parameters[name] = whole[id(parameter)]


def _require_shardable(loaded: LoadedModel, recipe: Recipe) -> None:
    """Raise UsageError for what cannot be split up."""
    plain = "Start without FSDP: each process then holds the whole model."
    if recipe.quantise != "none":
        raise UsageError("quantised weights cannot be split up by FSDP", where="quantise", hint=plain)
    if recipe.optimizer != "adamw":
        raise UsageError(f"{recipe.optimizer} cannot be split up by FSDP", where="optimizer", hint=plain)
    if loaded.choices["precision"].value == "fp16":
        raise UsageError("fp16 is not trained in shards", where="--precision", hint="Give bf16 or fp32.")


def _rows_module(loaded: LoadedModel) -> torch.nn.Module:
    """The model as a module whose forward is a row's loss: FSDP gathers weights where a module is called."""
    import torch

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            model: Any = loaded.model
            self.llava = model

        def forward(self, row: PackedRow, see: See) -> torch.Tensor:
            loss = row_loss(self.llava, row, see(row.pictures) if row.pictures else None)
            return loss if row.pictures else loss + _touch_picture_parts(loaded)

    return Rows()


def _touch_picture_parts(loaded: LoadedModel) -> torch.Tensor | int:
    """0, with a gradient of 0 for the projector and the tower where they learn."""
    import torch

    model: Any = loaded.model
    projector = model.model.multi_modal_projector
    if tower_learns(loaded.model):
        size = model.config.vision_config.image_size
        blank = torch.zeros(1, 3, size, size, dtype=tower_dtype(loaded.model), device=loaded.device)
        seen = tower_features(model, blank)
    elif not any(parameter.requires_grad for parameter in projector.parameters()):
        return 0
    else:
        seen = torch.zeros(1, 1, projector.linear_1.in_features, device=loaded.device)
    touched: torch.Tensor = projector(seen.to(projector.linear_1.weight.dtype)).sum() * 0
    return touched


def _split(rows: torch.nn.Module, loaded: LoadedModel, world: World) -> None:
    """Split the weights up in place, layer by layer, as accelerate was configured.

    A frozen tower stays whole in each process: it is small, and cached features let some processes pass it by.
    """
    import torch
    from accelerate import FullyShardedDataParallelPlugin
    from torch.distributed import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    told: Any = FullyShardedDataParallelPlugin()
    if told.fsdp_version != 2:
        raise UsageError("only FSDP 2 is supported", where="fsdp_version", hint="Set fsdp_version: 2 for accelerate.")
    if told.activation_checkpointing:
        raise UsageError(
            "activations are recomputed by the recipe's word, not by accelerate's",
            where="fsdp_activation_checkpointing",
            hint="Set it to false, and gradient_checkpointing = true in the recipe.",
        )
    model: Any = loaded.model
    precision = loaded.choices["precision"].value
    half = torch_dtype(precision) if precision != "fp32" else None
    tower = model.model.vision_tower
    how: dict[str, Any] = {
        "mesh": init_device_mesh(loaded.device, (world.size,)),
        "reshard_after_forward": told.reshard_after_forward,
        "mp_policy": MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32 if half else None),
        "offload_policy": CPUOffloadPolicy() if isinstance(told.cpu_offload, CPUOffloadPolicy) else OffloadPolicy(),
        "ignored_params": set() if tower_learns(loaded.model) else set(tower.parameters()),
    }
    names = set(told.transformer_cls_names_to_wrap or model._no_split_modules)
    for part in rows.modules():
        if type(part).__name__ in names and any(p not in how["ignored_params"] for p in part.parameters()):
            fully_shard(part, **how)
    fully_shard(rows, **{**how, "reshard_after_forward": False})


def _local(value: Any) -> Any:
    """The part of a split tensor that is here."""
    return value.to_local() if hasattr(value, "to_local") else value


def _sharded_like(value: Any, parameter: Any) -> Any:
    """A part of a moment as the moment of a split parameter; numbers of steps stay as they are."""
    from torch.distributed.tensor import DTensor

    if getattr(value, "ndim", 0) == 0 or not isinstance(parameter, DTensor):
        return value
    return DTensor.from_local(
        value.to(parameter.to_local().device),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
