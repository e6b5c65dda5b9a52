"""Where a run's features are kept: memory if all pictures' fit, else the disk, else nowhere; with the arithmetic."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import UsageError, first_line
from llavamed_cli.model.free_memory import free_memory
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.precision import GB, Choice
from llavamed_cli.progress import Progress
from llavamed_cli.training.feature_cache import DiskCache, MemoryCache, features_folder, open_folder
from llavamed_cli.training.features import Features, FrozenFeatures, LearnedFeatures, tower_dtype, tower_key
from llavamed_cli.training.parts import count, tower_learns, trained_parameters
from llavamed_cli.training.recipe import Recipe

if TYPE_CHECKING:
    from llavamed_cli.training.examples import ExampleSet

SHARE = 0.5
"""Of the memory or disk that is free, what features may take: training and other programs need the rest."""
ON_THE_WAY = 12
"""Bytes that a learned number takes beside itself: its gradient and AdamW's two moments, in fp32."""


@dataclass(frozen=True)
class Demand:
    """What a run would keep. pictures: different ones. times: how often pictures are met in all. size: bytes of one."""

    pictures: int
    times: int
    size: int

    @property
    def bytes(self) -> int:
        """Of all pictures."""
        return self.pictures * self.size

    def sentence(self) -> str:
        """For a person."""
        return f"features of {self.pictures:,} pictures take {self.bytes / GB:.2f} GB"


def open_features(
    loaded: LoadedModel,
    recipe: Recipe,
    examples: ExampleSet,
    *,
    progress: Progress,
    folder: Path | None = None,
) -> tuple[Features, Choice]:
    """The features of a run's pictures, kept as the recipe's `cache_features` says; and what was chosen, with why.

    Args:
        folder: where features are kept on disk; None for the user's cache.

    Raises:
        UsageError: `disk` was asked for, and has no room or cannot be written.
    """
    if tower_learns(loaded.model):
        return LearnedFeatures(loaded), Choice("off", "the vision tower learns: it sees a picture anew each time")
    if recipe.cache_features == "off":
        return FrozenFeatures(loaded), Choice("off", "asked for")
    if not examples.pictures:
        return FrozenFeatures(loaded), Choice("off", "no sample has a picture")
    shape, dtype = _shape(loaded), tower_dtype(loaded.model)
    demand = Demand(examples.pictures, _times_met(examples, recipe), shape[0] * shape[1] * dtype.itemsize)
    if recipe.cache_features == "auto" and demand.times <= demand.pictures:
        return FrozenFeatures(loaded), Choice("off", "each picture is met once")
    limit = memory_limit(loaded)
    asked = recipe.cache_features == "memory"
    if asked or (recipe.cache_features == "auto" and demand.bytes <= limit):
        choice = Choice("memory", _in_memory(demand, limit, asked=asked))
        progress.note(f"features: {choice.value} ({choice.reason})")
        return FrozenFeatures(loaded, MemoryCache(limit)), choice
    place = (folder or features_folder()) / tower_key(loaded)
    choice, leave = _on_disk(demand, place, limit, asked=recipe.cache_features == "disk")
    progress.note(f"features: {choice.value} ({choice.reason})")
    if choice.value == "off":
        return FrozenFeatures(loaded), choice
    return FrozenFeatures(loaded, DiskCache(place, shape, dtype, leave=leave, progress=progress)), choice


def _in_memory(demand: Demand, limit: int, *, asked: bool) -> str:
    if demand.bytes <= limit:
        return f"{demand.sentence()}, and {limit / GB:.2f} GB may be used"
    kept = limit // demand.size
    return f"asked for; {demand.sentence()}: {kept:,} pictures' fit {limit / GB:.2f} GB, others are computed each time"


def _on_disk(demand: Demand, place: Path, limit: int, *, asked: bool) -> tuple[Choice, int]:
    """`disk` where there is room, `off` otherwise, an error where it was asked for; and how many bytes stay free."""
    try:
        held = open_folder(place)
        free = shutil.disk_usage(place).free
        fits = demand.bytes - held <= SHARE * free
        why = f"{demand.sentence()}, and {free / GB:.2f} GB are free in {place}"
    except OSError as error:
        held, free, fits, why = 0, 0, False, f"{place} cannot be written: {error.strerror or first_line(error)}"
    leave = int((1 - SHARE) * free)
    if fits:
        known = f"; {held / GB:.2f} GB are there already" if held else ""
        first = "asked for" if asked else f"more than {limit / GB:.2f} GB of memory"
        return Choice("disk", f"{first}; {why}{known}"), leave
    if asked:
        raise UsageError(
            f"features cannot be kept on disk: {why}; half of what is free may be used",
            where="cache_features",
            hint="Set LLAVAMED_CACHE to a folder with room, or use auto.",
        )
    return Choice("off", f"neither {limit / GB:.2f} GB of memory nor the disk has room: {why}"), leave


def memory_limit(loaded: LoadedModel) -> int:
    """Bytes of main memory that features may take in this process: half of what training will leave, shared among the
    processes of this machine."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun and accelerate
    needed = ON_THE_WAY * count(trained_parameters(loaded.model)) if loaded.device == "cpu" else 0
    return max(0, int(SHARE * (free_memory("cpu").bytes / processes - needed)))


def _shape(loaded: LoadedModel) -> tuple[int, int]:
    """Tokens and width of a picture's features, as its projector takes them."""
    model: Any = loaded.model
    return loaded.image_length, int(model.model.multi_modal_projector.linear_1.in_features)


def _times_met(examples: ExampleSet, recipe: Recipe) -> int:
    """How often pictures are looked at in a run: where samples share them, once an epoch for each set of pictures."""
    import numpy

    per_epoch = int(examples.picture_counts.sum())
    if recipe.share_pictures:
        _, first = numpy.unique(examples.picture_keys, return_index=True)
        per_epoch = int(examples.picture_counts[first].sum())
    epochs = recipe.steps * recipe.batch_size / len(examples) if recipe.steps else recipe.epochs
    return int(per_epoch * epochs)
