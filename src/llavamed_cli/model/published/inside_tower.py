"""The vision tower inside a LLaVA 1.5 checkpoint, which the reference code throws away and replaces by the stock one.

Its settings stand in no file of the checkpoint. They are taken from the tower that config.json names, where that is on
this machine; else from the tensors' shapes, for OpenAI's CLIPs, whose other settings are all alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.errors import ModelError
from llavamed_cli.model.published.lazy_tensor import LazyTensor
from llavamed_cli.model.published.tower_tensors import account, saved_prefix
from llavamed_cli.model.published.towers import CLIP_MEAN, CLIP_STD, TowerReading

if TYPE_CHECKING:
    from transformers import CLIPVisionConfig

INSIDE = "model.vision_tower.vision_tower."
OPENAI_CLIP = re.compile(r"(.*[/\\])?clip-vit-(base|large)-patch(14|16|32)(-336)?")
"""The last part of the names of OpenAI's CLIPs, on the hub and in people's folders."""
OPENAI_HEAD_WIDTH = 64
"""Every CLIP of OpenAI's has heads of 64 numbers (Radford et al. 2021, table 20)."""


def tower_names(names: Iterable[str]) -> tuple[str, ...]:
    """Stored names of a tower inside a checkpoint."""
    return tuple(name for name in names if name.startswith(INSIDE))


def tower_inside(
    tensors: Mapping[str, LazyTensor], name: str, stock: TowerReading | None, checkpoint: Path
) -> TowerReading:
    """The checkpoint's own tower.

    Args:
        tensors: the checkpoint's, by stored name.
        name: the tower that config.json names.
        stock: that one, where it is on this machine.

    Raises:
        ModelError: its settings cannot be known, or its tensors are not those of a tower of these settings.
    """
    inside = {stored[len(INSIDE) :]: tensors[stored] for stored in tower_names(tensors)}
    if stock is not None:
        accounted = account(stock.config, inside, checkpoint)
        return replace(stock, tensors=accounted.tensors, ignored=_whole_names(accounted.ignored), added=accounted.added)
    if not OPENAI_CLIP.fullmatch(name):
        raise ModelError(
            f"the checkpoint has a vision tower but not its settings, and the tower it was made from, {name}, is not "
            "on this machine",
            where=str(checkpoint),
            hint=f"`hf download {name}` with a network, or name a folder with --vision-tower.",
        )
    config = _openai_config(inside, checkpoint)
    accounted = account(config, inside, checkpoint)
    return TowerReading(
        config=config,
        tensors=accounted.tensors,
        size=config.image_size,
        patch=config.patch_size,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        class_token=True,
        kind="CLIP",
        ignored=_whole_names(accounted.ignored),
        added=accounted.added,
    )


def _whole_names(ignored: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {reason: tuple(INSIDE + name for name in names) for reason, names in ignored.items()}


def _openai_config(inside: Mapping[str, LazyTensor], checkpoint: Path) -> CLIPVisionConfig:
    """The settings of one of OpenAI's CLIPs, from its tensors' shapes."""
    from transformers import CLIPVisionConfig

    prefix = saved_prefix("clip_vision_model")
    shapes = {name.removeprefix(prefix): tensor.shape for name, tensor in inside.items()}
    try:
        width, _, patch, _ = shapes["embeddings.patch_embedding.weight"]
        positions, _ = shapes["embeddings.position_embedding.weight"]
        inner, _ = shapes["encoder.layers.0.mlp.fc1.weight"]
    except (KeyError, ValueError) as error:
        raise ModelError("the tensors of the checkpoint's vision tower are not a CLIP's", where=str(checkpoint)) from (
            error
        )
    layers = {match[1] for match in (re.match(r"encoder\.layers\.(\d+)\.", name) for name in shapes) if match}
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, width // OPENAI_HEAD_WIDTH),
        patch_size=patch,
        image_size=patch * round((positions - 1) ** 0.5),
        hidden_act="quick_gelu",
        projection_dim=768,
    )


@dataclass(frozen=True)
class Difference:
    """How far two towers are apart: the largest, over tensors, of max |a - b| / max |b|, and the tensor it is in."""

    relative: float
    tensor: str


def compare_towers(own: TowerReading, stock: TowerReading) -> Difference:
    """Hold each tensor of a checkpoint's tower against the stock one's, rounded to the same number format."""
    worst = Difference(0.0, "")
    for name, tensor in own.tensors.items():
        if name in own.added:
            continue
        ours = tensor.read()
        theirs = stock.tensors[name].read().to(ours.dtype).float()
        scale = float(theirs.abs().max()) or 1.0
        relative = float((ours.float() - theirs).abs().max()) / scale
        if relative > worst.relative:
            worst = Difference(relative, name)
    return worst
