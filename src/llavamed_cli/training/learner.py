"""What learns: the model's part of a step. Here each process holds the whole model; `sharding` splits it up.

Every process adds up the gradients of its own rows, in fp32; the sums are added over all processes, once a step, and
each takes the same optimiser step. Beside torch's DDP this waits for the wire at the end of a step instead of during
its last row, and in return any process may have any number of rows, or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llavamed_cli.model.load import LoadedModel
from llavamed_cli.training.autocast import computing
from llavamed_cli.training.layout import PackedRow
from llavamed_cli.training.optimizer import make_optimizer, set_rates
from llavamed_cli.training.parts import trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.step import row_loss
from llavamed_cli.world import World

if TYPE_CHECKING:
    import torch

See = Callable[[tuple[Path, ...]], "torch.Tensor"]
"""Features of pictures [n, tokens, width]."""
BUCKET = 25_000_000
"""Numbers that cross the wire at a time: 100 MB."""


class Learner(Protocol):
    """A model in training, and its optimiser.

    sharded: no process holds all weights; then all must lead equally many rows through the model, and a process that
        fails in between can tell nobody.
    """

    sharded: bool

    def add(self, row: PackedRow, see: See, learned: int) -> float:
        """Add the gradients of a row's part of the step's mean loss over `learned` tokens; return that part."""

    def pad(self, row: PackedRow, see: See) -> None:
        """Take part in a row of other processes without adding anything."""

    def step(self, share: float, max_norm: float, *, pictures: bool) -> float:
        """Take an optimiser step at `share` of the highest rates; return the gradients' length before it was cut.

        pictures: whether any row of the step had one. A length that is not finite is no step, unless fp16's scaler is
        there to find a scale that is.
        """

    def drop(self) -> None:
        """Forget the gradients added so far."""

    def weights(self) -> Mapping[str, torch.Tensor]:
        """What learned, as this process holds it."""

    def states(self) -> Mapping[str, Any]:
        """Optimiser and scaler, as this process holds them."""

    def restore(self, weights: Mapping[str, torch.Tensor], states: Mapping[str, Any] | None = None) -> None:
        """Take back what `weights` and `states` gave."""

    def resting(self, world: World) -> Any:
        """A context in which the model may be called as a whole; a process enters its block where it yields True."""

    def gather(self, world: World) -> None:
        """Leave a model with whole weights to process 0, and of no further use to the others."""


class Replica:
    """The whole model, in this process and any other."""

    sharded = False

    def __init__(self, loaded: LoadedModel, recipe: Recipe, world: World) -> None:
        import torch

        self._loaded = loaded
        self._world = world
        self._parameters = trained_parameters(loaded.model)
        self._optimizer = make_optimizer(loaded.model, recipe)
        self._scaler = torch.amp.GradScaler(loaded.device, enabled=loaded.choices["precision"].value == "fp16")

    def add(self, row: PackedRow, see: See, learned: int) -> float:
        with computing(self._loaded):
            loss = row_loss(self._loaded.model, row, see(row.pictures) if row.pictures else None) / learned
        if loss.requires_grad:  # not where the projector alone learns and the row has no picture
            self._scaler.scale(loss).backward()
        return float(loss.detach())

    def pad(self, row: PackedRow, see: See) -> None:
        return

    def step(self, share: float, max_norm: float, *, pictures: bool) -> float:
        import torch

        set_rates(self._optimizer, share)
        learned = [parameter for parameter in self._parameters.values() if parameter.requires_grad]
        if self._world.size > 1:
            add_over_processes(learned)
        if all(parameter.grad is None for parameter in learned):
            return 0.0
        self._scaler.unscale_(self._optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(learned, max_norm))
        if math.isfinite(norm) or self._scaler.is_enabled():
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self.drop()
        return norm

    def drop(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)

    def weights(self) -> Mapping[str, torch.Tensor]:
        return self._parameters

    def states(self) -> Mapping[str, Any]:
        return {"optimizer": self._optimizer.state_dict(), "scaler": self._scaler.state_dict()}

    def restore(self, weights: Mapping[str, torch.Tensor], states: Mapping[str, Any] | None = None) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])
        if states is not None:
            self._optimizer.load_state_dict(states["optimizer"])
            self._scaler.load_state_dict(states["scaler"])

    @contextmanager
    def resting(self, world: World) -> Iterator[bool]:
        yield world.leads

    def gather(self, world: World) -> None:
        return


def add_over_processes(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes.

    One that no process has stays absent, so that its parameter is left alone, as in one process.
    """
    import torch
    from torch.distributed import all_reduce

    device = parameters[0].device
    had = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32, device=device)
    all_reduce(had)
    bucket: list[torch.Tensor] = []
    for parameter, processes in zip(parameters, had.tolist(), strict=True):
        if not processes:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter.grad)
        if sum(gradient.numel() for gradient in bucket) >= BUCKET:
            _add_bucket(bucket)
            bucket = []
    _add_bucket(bucket)


def _add_bucket(gradients: list[torch.Tensor]) -> None:
    import torch
    from torch.distributed import all_reduce

    if not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
