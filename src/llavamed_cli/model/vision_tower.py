"""The vision tower a LLaVA is assembled from: any that published/towers.py reads, by folder or hub name, or `tiny`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import ModelError, first_line
from llavamed_cli.model.hub import locate
from llavamed_cli.model.published.tower_tensors import tower_class
from llavamed_cli.model.published.towers import FAMILIES, TowerReading, read_tower
from llavamed_cli.model.tiny import IMAGE_SIZE, PATCH_SIZE, TINY, tiny_vision_tower

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class VisionTower:
    """A frozen encoder of pictures [batch, 3, size, size] into (size / patch)^2 tokens of its own width.

    reading: what is known of it, without its tensors; `size` is the one asked for.
    """

    model: PreTrainedModel = field(repr=False)
    reading: TowerReading


def load_vision_tower(where: str, *, dtype: torch.dtype, seed: int, image_size: int | None = None) -> VisionTower:
    """Load `where`; take its pictures at `image_size` pixels, or at the size its own settings name.

    Raises:
        ModelError: no tower is there, its tensors are not those of its config, or it cannot take `image_size`.
    """
    if where == TINY:
        tiny = tiny_vision_tower(seed)
        return VisionTower(tiny, _at(_tiny(tiny.config), image_size, where))
    reading = _at(read_tower(locate(where)), image_size, where)
    return VisionTower(build_tower(reading, dtype, where), replace(reading, tensors={}))


def build_tower(reading: TowerReading, dtype: torch.dtype, where: str) -> Any:
    """The model of a reading, its tensors read one at a time.

    Raises:
        ModelError: the weights cannot be read.
    """
    try:
        model, report = tower_class(reading.config).from_pretrained(
            None, config=reading.config, state_dict=dict(reading.tensors), dtype=dtype, output_loading_info=True
        )
    except Exception as error:  # a file that is damaged behind its header fails when it is read
        raise ModelError(f"the vision tower cannot be read: {first_line(error)}", where=where) from error
    left = sorted(name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in report[kind])
    if left:  # read_tower has checked names; this transformers holds others
        raise ModelError(f"transformers took the tower's tensors otherwise: {left[0]} and others", where=where)
    return model.eval()


def _tiny(config: Any) -> TowerReading:
    family = FAMILIES["vit"]
    return TowerReading(
        config=config,
        tensors={},
        size=IMAGE_SIZE,
        patch=PATCH_SIZE,
        mean=family.mean,
        std=family.std,
        class_token=family.class_token,
        kind="a ViT from nothing",
    )


def _at(reading: TowerReading, wanted: int | None, where: str) -> TowerReading:
    """The same tower for pictures of `wanted` pixels a side."""
    size = wanted or reading.size
    if size != reading.size and not reading.any_size:
        raise ModelError(
            f"this tower takes {reading.size} pixels, not {size}", where=where, hint="Leave --image-size out."
        )
    if size % reading.patch:
        raise ModelError(f"{size} pixels are no whole number of {reading.patch}-pixel patches", where=where)
    return replace(reading, size=size)
