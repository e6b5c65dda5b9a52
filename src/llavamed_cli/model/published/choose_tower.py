"""Which vision tower a LLaVA of the original layout runs on: its own, the stock one its config names, or another.

The reference drops a tower that lies in the checkpoint in silence and loads the stock one. Here the checkpoint's own is
the default, and it is said how far the two are apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llavamed_cli.errors import ModelError
from llavamed_cli.model import hub
from llavamed_cli.model.precision import Choice
from llavamed_cli.model.published.inside_tower import compare_towers, tower_inside, tower_names
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.named_tower import fetched_tower, named_tower
from llavamed_cli.model.published.reading import CHECKPOINT, STOCK
from llavamed_cli.model.published.towers import TowerReading, read_tower

OWN_LEFT_OUT = "the checkpoint's own vision tower, replaced by another"


@dataclass(frozen=True)
class ChosenTower:
    """The tower in use and why; ignored: tensors of towers that are left out, by reason."""

    tower: TowerReading = field(repr=False)
    choice: Choice
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def choose_tower(wanted: str, raw: Mapping[str, Any], files: Mapping[str, LazyTensor], checkpoint: Path) -> ChosenTower:
    """Resolve `--vision-tower`.

    Args:
        wanted: "checkpoint" (its own where it has one, else the one its config names), "stock" (the one its config
            names), or a folder or hub name.
        raw: config.json. files: the checkpoint's tensors by stored name.

    Raises:
        ModelError: that tower cannot be had or read.
    """
    inside = tower_names(files)
    if wanted not in (CHECKPOINT, STOCK):
        choice = Choice(wanted, "asked for")
        return ChosenTower(read_tower(hub.locate(wanted)), choice, _left_out(inside))
    name = raw.get("mm_vision_tower")
    if not isinstance(name, str) or not name:
        raise ModelError(
            "config.json names no mm_vision_tower", where=str(checkpoint), hint="Name one with --vision-tower FOLDER."
        )
    if wanted == CHECKPOINT and inside:
        return _own(name, files, checkpoint)
    reason = "asked for" if wanted == STOCK else "the one that config.json names; the checkpoint holds none"
    tower = read_tower(fetched_tower(name, checkpoint))
    choice = Choice(f"stock ({name})", reason)
    return ChosenTower(tower, choice, _left_out(inside), _compared_to_own(tower, name, files, checkpoint))


def _own(name: str, files: Mapping[str, LazyTensor], checkpoint: Path) -> ChosenTower:
    stock, fault = _at_hand(name, checkpoint)
    own = tower_inside(files, name, stock, checkpoint)
    choice = Choice(CHECKPOINT, "its shards hold one")
    if stock is None:
        note = f"the checkpoint's own vision tower could not be compared with the stock one ({name}): {fault}"
        return ChosenTower(own, choice, notes=(note,))
    return ChosenTower(own, choice, notes=(_comparison(own, stock, name),))


def _compared_to_own(
    stock: TowerReading, name: str, files: Mapping[str, LazyTensor], checkpoint: Path
) -> tuple[str, ...]:
    if not tower_names(files):
        return ()
    return (_comparison(tower_inside(files, name, stock, checkpoint), stock, name),)


def _at_hand(name: str, checkpoint: Path) -> tuple[TowerReading | None, str]:
    """The stock tower if it is on this machine, else why not: it only serves a comparison."""
    folder = named_tower(name, checkpoint)
    if folder is None:
        return None, "it is not on this machine"
    try:
        return read_tower(folder), ""
    except ModelError as error:
        return None, str(error)


def _comparison(own: TowerReading, stock: TowerReading, name: str) -> str:
    difference = compare_towers(own, stock)
    if difference.relative == 0:
        return f"the checkpoint's own vision tower is the stock one ({name}), number for number"
    return (
        f"the checkpoint's own vision tower differs from the stock one ({name}): by up to {difference.relative:.2g} "
        f"of a tensor's largest number, in {difference.tensor}"
    )


def _left_out(inside: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {OWN_LEFT_OUT: inside} if inside else {}
