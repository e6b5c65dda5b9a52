"""Where the random numbers of training stand: dropout alone draws from them, each process its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RandomState = Mapping[str, "torch.Tensor"]


def seed_training(seed: int, rank: int) -> None:
    """Start the random numbers of a process: the first ones' as of one process, others' apart from them."""
    import torch

    torch.manual_seed((seed + rank) % 2**63)


def random_state(device: str) -> RandomState:
    """The generators that training on a device may draw from, as uint8 tensors."""
    import torch

    state = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        state["cuda"] = torch.cuda.get_rng_state()
    if device == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: RandomState) -> None:
    """Go on from where `random_state` was taken."""
    import torch

    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
    if "mps" in state:
        torch.mps.set_rng_state(state["mps"])
