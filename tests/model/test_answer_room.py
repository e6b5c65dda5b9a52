"""How much is answered at once: shares of what is free, whatever that is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llavamed_cli.model import answer_room as module
from llavamed_cli.model.answer_room import KEPT, LEAST, MOST_READ, NEIGHBOURS, answer_room
from llavamed_cli.model.branch_cache import BranchCache
from llavamed_cli.model.free_memory import FreeMemory
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.stems import Stem


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model), device="cpu", precision="fp32")


def leave(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_memory", lambda device: FreeMemory(free, "in a test"))


def test_what_is_kept_takes_its_share_of_the_memory(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on a cache of that many tokens: 4 layers of 128 numbers, twice."""
    leave(64 * 2**20, monkeypatch)
    room = answer_room(loaded)
    cache = BranchCache.of([Stem((), ((0,) * room.kept,), (), (0,))], new_tokens=0, device="cpu")
    states = torch.zeros(1, 4, room.kept, 32)
    for layer in range(4):
        cache.keep(layer, 0, (0, room.kept), states, states)
    taken = sum(one.nbytes for kept in (cache.keys, cache.values) for one in kept.values())
    assert taken == pytest.approx(KEPT * 64 * 2**20, rel=0.01)
    assert room.read == MOST_READ["cpu"]


def test_little_memory_still_leaves_room_for_a_question(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(1000, monkeypatch)
    room = answer_room(loaded)
    assert (room.kept, room.read) == (LEAST, LEAST)


def test_processes_share_a_machines_memory(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(64 * 2**20, monkeypatch)
    alone = answer_room(loaded)
    monkeypatch.setenv(NEIGHBOURS, "4")
    assert answer_room(loaded).kept == pytest.approx(alone.kept / 4, abs=1)
