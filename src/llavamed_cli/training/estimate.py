"""`--plan`: parameters, tokens, steps, memory, and hours from one measured row, before a run starts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.segment_attention import use_segments
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.features import FrozenFeatures
from llavamed_cli.training.layout import lay_row
from llavamed_cli.training.optimizer import MOMENT_BYTES
from llavamed_cli.training.packing import Row, plan_epoch
from llavamed_cli.training.parts import count, trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.schedule import Schedule
from llavamed_cli.training.step import row_loss

WEIGHT_AND_GRADIENT = 4 + 4
"""Bytes of an fp32 weight that learns, and of its gradient; the optimiser's moments come on top."""
STEPS_LAID_OUT = 200
"""Packing is looked at over this many steps; an epoch of half a million samples is like its beginning."""


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    laid_per_epoch: the tokens that are computed; samples about one picture share its tokens. state_bytes: weights,
    gradients and optimiser; activations come on top.
    """

    samples: int
    pictures: int
    parameters: int
    trained: int
    tokens_per_epoch: int
    laid_per_epoch: int
    supervised_per_epoch: int
    rows_per_epoch: int
    fill: float
    steps: int
    state_bytes: int
    seconds: float

    def lines(self) -> list[str]:
        """The plan for a person."""
        hours = self.seconds / 3600
        duration = f"{hours:.1f} h" if hours >= 1 else f"{self.seconds / 60:.1f} min"
        return [
            f"samples      {self.samples:,} with {self.pictures:,} pictures",
            f"parameters   {self.trained:,} of {self.parameters:,} trained",
            f"an epoch     {self.tokens_per_epoch:,} tokens, {self.supervised_per_epoch:,} of them supervised",
            f"packing      {self.rows_per_epoch:,} rows an epoch, filled to {self.fill:.0%}",
            f"computed     {self.laid_per_epoch:,} tokens an epoch: samples about one picture share its tokens",
            f"steps        {self.steps:,}",
            f"memory       {self.state_bytes / 2**30:.2f} GiB for weights, gradients and optimiser, plus activations",
            f"time         about {duration}, from one row measured now",
        ]


def plan_training(loaded: LoadedModel, examples: ExampleSet, recipe: Recipe, seed: int) -> Plan:
    """Count, and time one packed row forward and backward (its gradients are thrown away)."""
    epoch = plan_epoch(examples, recipe, seed=seed, epoch=0)
    fill = epoch.fill(STEPS_LAID_OUT)
    part = fill.tokens / int(examples.lengths.sum())  # of the epoch, where it has more steps than are laid out
    schedule = Schedule.of(recipe, len(examples))
    model: Any = loaded.model
    trained = count(trained_parameters(loaded.model))
    everything = sum(parameter.numel() for parameter in model.parameters())
    frozen_bytes = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    laid = fill.laid / part
    return Plan(
        samples=len(examples),
        pictures=examples.pictures,
        parameters=everything,
        trained=trained,
        tokens_per_epoch=int(examples.lengths.sum()),
        laid_per_epoch=round(laid),
        supervised_per_epoch=int(examples.supervised.sum()),
        rows_per_epoch=round(fill.rows / part),
        fill=fill.share,
        steps=schedule.total,
        state_bytes=frozen_bytes + trained * (WEIGHT_AND_GRADIENT + MOMENT_BYTES[recipe.optimizer]),
        seconds=_rate(loaded, examples, epoch[0][0], recipe) * laid * schedule.total / schedule.per_epoch,
    )


def _rate(loaded: LoadedModel, examples: ExampleSet, row: Row, recipe: Recipe) -> float:
    """Seconds a laid token takes forward and backward, after a pass that warms the caches."""
    model: Any = loaded.model
    use_segments(model)
    packed = lay_row(examples, row, share=recipe.share_pictures).to(loaded.device)
    features = FrozenFeatures(loaded)
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        seen = features.of(packed.pictures) if packed.pictures else None
        loss = row_loss(model, packed, seen)
        if loss.requires_grad:  # not where the projector alone learns and the row has no picture
            loss.backward()
        seconds = time.perf_counter() - began
        model.zero_grad(set_to_none=True)
    return seconds / packed.input_ids.shape[1]
