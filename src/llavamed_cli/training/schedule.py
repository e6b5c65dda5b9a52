"""How many steps a run takes, and the learning rate of each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llavamed_cli.training.recipe import Recipe


@dataclass(frozen=True)
class Schedule:
    """How many steps there are, and the share of its highest learning rate that each has."""

    total: int
    per_epoch: int
    warmup: int

    @classmethod
    def of(cls, recipe: Recipe, examples: int) -> Schedule:
        """The schedule of a recipe over that many examples."""
        per_epoch = math.ceil(examples / recipe.batch_size)
        total = recipe.steps or per_epoch * recipe.epochs
        return cls(total=total, per_epoch=per_epoch, warmup=math.ceil(total * recipe.warmup))

    def rate_share(self, step: int) -> float:
        """Of step `step` (from 0): a linear warm-up, then half a cosine down to 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        gone = (step - self.warmup) / max(1, self.total - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * gone))
