"""`--plan`: parameters, tokens, steps, memory, and hours from one measured row, before a run starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llavamed_cli.model.load import LoadedModel
from llavamed_cli.training.features import FrozenFeatures
from llavamed_cli.training.loop import Schedule
from llavamed_cli.training.packing import collate, plan_epoch, supervised_tokens
from llavamed_cli.training.parts import count, trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.samples import Example
from llavamed_cli.training.step import row_loss

BYTES_PER_TRAINED = 4 + 4 + 8
"""fp32 weight, its gradient, and AdamW's two moments."""


@dataclass(frozen=True)
class Plan:
    """What a run will take. state_bytes: weights, gradients and optimiser; activations come on top."""

    samples: int
    pictures: int
    parameters: int
    trained: int
    tokens_per_epoch: int
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
            f"steps        {self.steps:,}",
            f"memory       {self.state_bytes / 2**30:.2f} GiB for weights, gradients and optimiser, plus activations",
            f"time         about {duration}, from one row measured now",
        ]


def plan_training(loaded: LoadedModel, examples: Sequence[Example], recipe: Recipe, seed: int) -> Plan:
    """Count, and time one packed row forward and backward (its gradients are thrown away)."""
    lengths = [len(example.input_ids) for example in examples]
    steps = plan_epoch(lengths, batch_size=recipe.batch_size, max_tokens=recipe.max_tokens, seed=seed, epoch=0)
    rows = [row for step in steps for row in step]
    tokens = sum(lengths)
    schedule = Schedule.of(recipe, len(examples))
    model: Any = loaded.model
    trained = count(trained_parameters(loaded.model))
    everything = sum(parameter.numel() for parameter in model.parameters())
    frozen_bytes = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    row = [examples[index] for index in rows[0]]
    rate = _measure(loaded, row) / sum(len(example.input_ids) for example in row)
    return Plan(
        samples=len(examples),
        pictures=len({path for example in examples for path in example.pictures}),
        parameters=everything,
        trained=trained,
        tokens_per_epoch=tokens,
        supervised_per_epoch=sum(supervised_tokens(example) for example in examples),
        rows_per_epoch=len(rows),
        fill=tokens / sum(max(recipe.max_tokens, sum(lengths[index] for index in row)) for row in rows),
        steps=schedule.total,
        state_bytes=frozen_bytes + trained * BYTES_PER_TRAINED,
        seconds=rate * tokens * schedule.total / schedule.per_epoch,
    )


def _measure(loaded: LoadedModel, row: Sequence[Example]) -> float:
    """Seconds of a row's forward and backward, after one that warms the caches."""
    model: Any = loaded.model
    packed = collate(row)
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
    return seconds
