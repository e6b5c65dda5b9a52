"""The processes of a run: who writes, who waits for whom, and how a fault in one of them ends all with one message.

What the processes tell each other here is small (a step's loss, a request to stop, a fault) and goes over the CPU: once
a step, and wherever one does something alone. Every meeting carries faults, so a process that fails does not leave the
others waiting: it comes to whichever meeting they are at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

from llavamed_cli.errors import LlavamedError, TrainingError, UsageError, first_line

Value = TypeVar("Value")
PATIENCE = timedelta(hours=12)
"""How long processes wait for one that encodes data, looks at pictures or saves. One that died is noticed at once."""
ON_CPU, DEEPSPEED = "ACCELERATE_USE_CPU", "ACCELERATE_USE_DEEPSPEED"


@dataclass(eq=False)
class World:
    """The processes of a run. rank: this one's number; process 0 leads. local_rank: its number on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    _channel: Any = field(default=None, repr=False)
    _left: bool = field(default=False, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def exchange(self, value: Value, fault: Exception | None = None) -> list[Value]:
        """Every process's value, by rank. A meeting of all: each waits for the others.

        Raises:
            Exception: what failed in the first process that failed, where this one leads.
            SystemExit: the same, silently, in the others.
        """
        if self.size == 1:
            if fault is not None:
                raise fault
            return [value]
        from torch.distributed import all_gather_object

        told: list[Any] = [None] * self.size
        all_gather_object(told, (value, _told(fault, self.rank)), group=self._channel)
        first = next((number for number, (_, failed) in enumerate(told) if failed is not None), None)
        if first is not None:
            self._left = True
            failed: LlavamedError = told[first][1]
            if not self.leads:
                raise SystemExit(failed.exit_code)
            raise fault if first == 0 and fault is not None else failed
        return [value for value, _ in told]

    def from_lead(self, work: Callable[[], Value]) -> Value:
        """What process 0 makes, in all of them."""
        made: Any = work() if self.leads else None
        told: list[Value] = self.exchange(made)
        return told[0]

    def leave(self) -> None:
        """From now on this process meets the others no more: they wait for it where no meeting can reach them."""
        self._left = self.size > 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that all processes leave, or none: what fails in one ends all."""
        try:
            yield
        except Exception as error:
            if not self._left:
                self.exchange(None, error)
            raise
        self.exchange(None)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """A block that the first process of each machine goes through before the others: they find what it kept."""
        first = self.local_rank == 0
        if not first:
            self.exchange(None)
        yield
        if first:
            self.exchange(None)
        self.exchange(None)


ALONE = World()


def is_lead() -> bool:
    """Whether this process speaks, as torchrun and accelerate number processes."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def open_world(device: str) -> Iterator[World]:
    """Meet the other processes that torchrun or `accelerate launch` started, if they did.

    Args:
        device: as `--device`. On CUDA each process takes the GPU of its number.

    Raises:
        UsageError: the device is none that several processes can share, or accelerate was told to use DeepSpeed.
    """
    if os.environ.get(DEEPSPEED, "false").lower() == "true":
        raise UsageError(
            "DeepSpeed is not supported: training would go on as if it were not there",
            where="distributed_type",
            hint="FSDP 2 splits the same things: examples/accelerate/fsdp2.yaml.",
        )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    from accelerate import PartialState
    from torch import distributed

    state: Any = PartialState(cpu=_on_cpu(device))
    channel = distributed.new_group(backend="gloo", timeout=PATIENCE)
    world = World(state.process_index, state.num_processes, state.local_process_index, channel)
    with world.together():
        yield world
    distributed.barrier(group=channel)
    state.destroy_process_group()


def _on_cpu(device: str) -> bool:
    """Whether processes compute on the CPU; what accelerate was told and what we were told must agree."""
    from accelerate.utils import parse_flag_from_env

    from llavamed_cli.model.precision import choose_device

    chosen = choose_device(device).value
    if chosen == "mps":
        raise UsageError("several processes cannot share Apple's GPU", where="--device", hint="Give --device cpu.")
    if chosen == "cuda" and parse_flag_from_env(ON_CPU):
        raise UsageError(f"{ON_CPU} is set, and the device is CUDA", where="--device", hint="Give --device cpu.")
    return chosen == "cpu"


def _told(fault: Exception | None, rank: int) -> LlavamedError | None:
    """A fault as it may be sent; one that is no LlavamedError is named with the process it came from."""
    if fault is None or isinstance(fault, LlavamedError):
        return fault
    return TrainingError(
        f"process {rank} failed: {type(fault).__name__}: {first_line(fault)}",
        hint="The same command in one process, with --debug, shows where.",
    )
