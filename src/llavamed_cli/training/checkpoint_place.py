"""The folder of a run's checkpoints: what takes a place in it is whole, is on the disk, and is every process's.

A full disk is found out before anything that was there is touched.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import TrainingError, first_line
from llavamed_cli.files import umask
from llavamed_cli.world import ALONE, World

if TYPE_CHECKING:
    import torch

FORMAT = 2
FOLDER = "checkpoints"
STEP, STAGING = "step-", ".writing-"


@dataclass(frozen=True)
class Place:
    """Whose checkpoints lie where.

    identity: a hash of what the run is (recipe and data). sharded: whether each process holds a part of the weights.
    """

    out: Path
    identity: str
    world: World = ALONE
    sharded: bool = False

    @property
    def root(self) -> Path:
        """The folder of all checkpoints."""
        return self.out / FOLDER

    @property
    def shape(self) -> dict[str, Any]:
        """What must be the same when a checkpoint is read."""
        return {
            "format": FORMAT,
            "identity": self.identity,
            "processes": self.world.size,
            "sharded": self.sharded,
        }

    def part(self, name: str) -> str:
        """The name of this process's file."""
        return f"{name}-{self.world.rank:05d}" if self.sharded else name

    @property
    def steps(self) -> list[Path]:
        """What was saved, oldest first. The length of a name comes before its letters: step 1,000,000 follows step
        999,999."""
        return sorted(self.root.glob(f"{STEP}*"), key=lambda path: (len(path.name), path.name))

    @property
    def writes(self) -> bool:
        """Whether this process has weights to write."""
        return self.sharded or self.world.leads


@contextmanager
def writing(place: Place, target: Path, what: str) -> Iterator[Path]:
    """A folder that takes the place of `target` when every process has written its part, and the disk has all of it.

    Raises:
        TrainingError: something could not be written; nothing of it is left.
    """
    from safetensors import SafetensorError

    world = place.world
    staging: Path | None = None
    try:
        staging = world.from_lead(lambda: _staging(place))
        yield staging
        world.exchange(None)
        if world.leads:
            _to_disk(staging)
            staging.chmod(0o777 & ~umask())
            if target.exists():
                shutil.rmtree(target)
            staging.replace(target)
        world.exchange(None)
    except (OSError, RuntimeError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        before = place.steps
        kept = f"{before[-1].name} is whole, and the same command goes on from there" if before else "none is there yet"
        raise TrainingError(
            f"{what} of {target.name} cannot be written: {why}",
            where=str(place.root),
            hint=f"Make room on the disk; {kept}.",
        ) from error
    finally:
        if staging is not None and world.leads:
            shutil.rmtree(staging, ignore_errors=True)


def _staging(place: Place) -> Path:
    place.root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=STAGING, dir=place.root))


def _to_disk(folder: Path) -> None:
    """Wait until the disk has a folder's files: a power cut must not leave a name with nothing behind it."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_weights(weights: Mapping[str, torch.Tensor], name: Path) -> None:
    """Write tensors to `name` with the ending .safetensors."""
    from safetensors.torch import save_file

    file = name.with_suffix(".safetensors")
    save_file({key: tensor.detach().cpu().contiguous() for key, tensor in weights.items()}, file)
    file.chmod(0o666 & ~umask())  # safetensors writes files that only their owner can read


def read_weights(name: Path) -> Mapping[str, torch.Tensor]:
    """What `write_weights` wrote."""
    from safetensors.torch import load_file

    found: Mapping[str, torch.Tensor] = load_file(name.with_suffix(".safetensors"))
    return found
