"""Where an interrupted run goes on: trained weights, optimiser, scaler and random states, whole or absent.

Only what learns is saved; the frozen rest comes from the model the run started from. Read back with `weights_only`,
so a checkpoint from a stranger runs no code. Where each process holds a shard of the weights, each writes its own; the
same number of processes reads them again. A checkpoint that was damaged is put aside, and the one before is taken.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import TrainingError, first_line
from llavamed_cli.files import read_json, write_json
from llavamed_cli.progress import Progress, Silent
from llavamed_cli.training.checkpoint_place import FORMAT, STAGING, STEP, Place, read_weights, write_weights, writing
from llavamed_cli.training.random_state import RandomState

if TYPE_CHECKING:
    import torch

BEST, ASIDE = "best-", "damaged-"
STATE, JUDGED = "state.pt", "best.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a step left behind in one process.

    step: how many steps are done. weights, states: as `Learner.weights` and `Learner.states` gave them. random_state:
    this process's own. judged: what validations found so far.
    """

    step: int
    weights: Mapping[str, torch.Tensor] = field(repr=False)
    states: Mapping[str, Any] = field(repr=False)
    random_state: RandomState = field(repr=False)
    judged: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(place: Place, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write `out/checkpoints/step-NNNNNN`, then remove all but the last `keep`. All processes meet here.

    Raises:
        TrainingError: it cannot be written (a full disk, most often); those before it stay whole.
    """
    import torch

    target = place.root / f"{STEP}{checkpoint.step:06d}"
    random_states = place.world.exchange(dict(checkpoint.random_state))
    with writing(place, target, "the checkpoint") as staging:
        if place.writes:
            write_weights(checkpoint.weights, staging / place.part("trained"))
            torch.save(dict(checkpoint.states), staging / f"{place.part('optimizer')}.pt")
        if place.world.leads:
            state = {**place.shape, "step": checkpoint.step, "random_states": random_states}
            torch.save({**state, "judged": dict(checkpoint.judged)}, staging / STATE)
    if place.world.leads:
        for old in place.steps[:-keep]:
            shutil.rmtree(old)
    return target


def save_best(place: Place, weights: Mapping[str, torch.Tensor], *, step: int, loss: float) -> None:
    """Write the weights of the best step so far to `out/checkpoints/best-NNNNNN`, in place of an earlier best.

    Raises:
        TrainingError: as `save_checkpoint`.
    """
    target = place.root / f"{BEST}{step:06d}"
    with writing(place, target, "the best weights") as staging:
        if place.writes:
            write_weights(weights, staging / place.part("trained"))
        if place.world.leads:
            write_json(staging / JUDGED, {**place.shape, "step": step, "loss": loss})
    if place.world.leads:
        for other in place.root.glob(f"{BEST}*"):
            if other != target:
                shutil.rmtree(other)


def load_best(place: Place) -> tuple[int, Mapping[str, torch.Tensor]]:
    """The best step, and its weights.

    Raises:
        TrainingError: they are gone or damaged.
    """
    found = sorted(place.root.glob(f"{BEST}*"))
    where = found[-1] if found else place.root
    try:
        judged = read_json(where / JUDGED, "best weights")
        return judged["step"], read_weights(where / place.part("trained"))
    except Exception as error:
        raise TrainingError(
            f"the best weights cannot be read: {first_line(error)}",
            where=str(where),
            hint=f"To train again from the start: rm -r {place.out}",
        ) from error


def load_checkpoint(place: Place, progress: Progress | None = None) -> Checkpoint | None:
    """The newest whole checkpoint; None where there is none. All processes meet here, and take the same.

    Raises:
        TrainingError: none is whole, or it is of another format, of another run or of another number of processes.
    """
    world = place.world
    if world.leads:
        for remains in place.root.glob(f"{STAGING}*"):  # what a killed run was writing
            shutil.rmtree(remains, ignore_errors=True)
    names = world.from_lead(lambda: [path.name for path in place.steps])
    for name in reversed(names):
        where = place.root / name
        found = _read(place, where)
        damage = next((told for told in world.exchange(found if isinstance(found, str) else None) if told), None)
        if damage is None and isinstance(found, Checkpoint):
            return found
        if name == names[0]:
            raise TrainingError(
                f"this checkpoint is damaged ({damage}), and there is none before it",
                where=str(where),
                hint=f"To train from the start remove it: rm -r {where}",
            )
        aside = where.with_name(f"{ASIDE}{name}")
        if world.leads:
            shutil.rmtree(aside, ignore_errors=True)
            where.replace(aside)
        (progress or Silent()).note(f"{where} is damaged ({damage}); it is put aside as {aside.name}")
    return None


def _read(place: Place, where: Path) -> Checkpoint | str:
    """A checkpoint, or how it is damaged."""
    import torch
    from safetensors import SafetensorError

    if not where.is_dir():
        raise TrainingError(
            f"process {place.world.rank} does not see this checkpoint",
            where=str(where),
            hint="--out must lie on storage that all machines share.",
        )
    try:
        state = torch.load(where / STATE, map_location="cpu", weights_only=True)
        if isinstance(state, dict):
            _require_same(place, state, where)
        weights = read_weights(where / place.part("trained"))
        states = torch.load(where / f"{place.part('optimizer')}.pt", map_location="cpu", weights_only=True)
        return Checkpoint(
            step=state["step"],
            weights=weights,
            states=states,
            random_state=state["random_states"][place.world.rank],
            judged=state["judged"],
        )
    except FileNotFoundError as error:
        return f"no {Path(str(error.filename)).name}"
    except pickle.UnpicklingError:
        return f"{STATE} is none"
    except (EOFError, RuntimeError, SafetensorError, KeyError, TypeError, IndexError) as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        return first_line(error)[:100]


def _require_same(place: Place, state: Mapping[str, Any], where: Path) -> None:
    form, processes = state.get("format"), state.get("processes")
    if form != FORMAT:
        raise TrainingError(
            f"this checkpoint has format {form}, and this version reads {FORMAT}", where=str(where), hint=_anew(place)
        )
    if state.get("identity") != place.identity:
        raise TrainingError("this checkpoint is of another run", where=str(where), hint="Give another --out.")
    if processes != place.world.size:
        raise TrainingError(
            f"this checkpoint is of {processes} process(es), and now there are {place.world.size}",
            where=str(where),
            hint=f"Start as many as before. {_anew(place)}",
        )
    if state.get("sharded") != place.sharded:
        before, now = ("in shards", "whole") if state.get("sharded") else ("whole", "in shards")
        raise TrainingError(
            f"this checkpoint holds weights {before}, and now each process holds them {now}",
            where=str(where),
            hint="Start it with the configuration of accelerate that it began with.",
        )


def _anew(place: Place) -> str:
    return f"To train from the start: rm -r {place.root}"
