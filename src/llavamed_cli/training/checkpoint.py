"""Where an interrupted run goes on: trained weights, optimiser and random state, whole or absent.

Only what learns is saved; the frozen rest comes from the model the run started from. Read back with `weights_only`,
so a checkpoint from a stranger runs no code.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import TrainingError

if TYPE_CHECKING:
    import torch

FORMAT = 1
FOLDER = "checkpoints"
WEIGHTS, STATE = "trained.safetensors", "state.pt"


@dataclass(frozen=True)
class Checkpoint:
    """What a step left behind. step: how many steps are done."""

    step: int
    weights: Mapping[str, torch.Tensor] = field(repr=False)
    optimizer: Mapping[str, Any] = field(repr=False)
    random_state: torch.Tensor = field(repr=False)


def save_checkpoint(out: Path, checkpoint: Checkpoint, *, identity: str, keep: int) -> Path:
    """Write `out/checkpoints/step-NNNNNN`, then remove all but the last `keep`.

    Args:
        identity: a hash of what the run is (recipe and data); a checkpoint of another is refused when it is loaded.
    """
    import torch
    from safetensors.torch import save_file

    root = out / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}, staging / WEIGHTS
        )
        state = {
            "format": FORMAT,
            "identity": identity,
            "step": checkpoint.step,
            "optimizer": checkpoint.optimizer,
            "random_state": checkpoint.random_state,
        }
        torch.save(state, staging / STATE)
        target = root / f"step-{checkpoint.step:06d}"
        if target.exists():
            shutil.rmtree(target)
        staging.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for old in _found(out)[:-keep]:
        shutil.rmtree(old)
    return target


def load_checkpoint(out: Path, *, identity: str) -> Checkpoint | None:
    """The newest whole checkpoint of `out`; None where there is none.

    Raises:
        TrainingError: it is damaged, of another format, or of another run.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _remove_remains(out)
    found = _found(out)
    if not found:
        return None
    newest = found[-1]
    try:
        state = torch.load(newest / STATE, map_location="cpu", weights_only=True)
        weights = load_file(newest / WEIGHTS)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError, KeyError) as error:
        raise TrainingError(
            "this checkpoint is damaged", where=str(newest), hint=f"Remove it: rm -r {newest}"
        ) from error
    form = state.get("format") if isinstance(state, dict) else None
    if form != FORMAT:
        raise TrainingError(f"checkpoint format {form}, expected {FORMAT}", where=str(newest))
    if state.get("identity") != identity:
        raise TrainingError("this checkpoint is of another run", where=str(newest), hint="Give another --out.")
    return Checkpoint(state["step"], weights, state["optimizer"], state["random_state"])


def _found(out: Path) -> list[Path]:
    """Oldest first. The length of a name comes before its letters: step 1,000,000 follows step 999,999."""
    return sorted((out / FOLDER).glob("step-*"), key=lambda path: (len(path.name), path.name))


def _remove_remains(out: Path) -> None:
    """Clear away what a killed run was writing."""
    for remains in (out / FOLDER).glob(".writing-*"):
        shutil.rmtree(remains, ignore_errors=True)
