"""Where a run is to take place: how many devices of which kind, and what each may hold."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from llavamed_cli.model.free_memory import free_memory
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.precision import GB, HEADROOM
from llavamed_cli.training.planning.hardware import Hardware


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`cards` devices of a kind (cuda, cpu or mps), each with `free` bytes for a run and its weights."""

    device: str
    free: int
    source: str
    cards: int = 1

    @property
    def room(self) -> int:
        """What of it may be planned with."""
        return int(self.free * (1 - HEADROOM))

    def sentence(self) -> str:
        """For a person."""
        return f"{self.free / GB:.2f} GB {self.source}, of which a tenth stays free"


def machine_of(hardware: Hardware) -> Machine:
    """Cards that are not here."""
    return Machine(device="cuda", free=hardware.card.memory, source=f"on a {hardware.name}", cards=hardware.count)


def this_machine(loaded: LoadedModel) -> Machine:
    """The device that a model is on, with what is free there now and what the model itself takes of it."""
    net: Any = loaded.model
    held = sum(one.numel() * one.element_size() for one in net.parameters() if one.device.type != "meta")
    free = free_memory(loaded.device)
    sharing = 1 if loaded.device == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's, accelerate's
    return Machine(
        device=loaded.device, free=free.bytes // sharing + held, source=f"are free {free.source}, the model's included"
    )
