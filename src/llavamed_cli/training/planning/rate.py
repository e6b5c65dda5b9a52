"""How fast this machine trains: one packed row of the data, forward and backward, its gradients thrown away."""

from __future__ import annotations

import time
from typing import Any

from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.segment_attention import choose_segments, use_segments
from llavamed_cli.training.autocast import computing
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.features import Features, FrozenFeatures, LearnedFeatures
from llavamed_cli.training.layout import PackedRow, lay_row
from llavamed_cli.training.packing import plan_epoch
from llavamed_cli.training.parts import tower_learns
from llavamed_cli.training.planning.plan import MeasuredRate
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.step import row_loss


def measure_rate(loaded: LoadedModel, examples: ExampleSet, recipe: Recipe, *, seed: int) -> MeasuredRate:
    """Time the first row of the first step, after a pass that warms the caches. The optimiser's step is left out.

    A tower that learns is timed with the row, and a frozen one apart from it: its views may be kept.
    """
    model: Any = loaded.model
    use_segments(model, choose_segments(loaded.device, loaded.choices["precision"].value).value)
    row = plan_epoch(examples, recipe, seed=seed, epoch=0)[0][0]
    packed = lay_row(examples, row, share=recipe.share_pictures).to(loaded.device)
    learns = tower_learns(loaded.model)
    features: Features = LearnedFeatures(loaded) if learns else FrozenFeatures(loaded)
    _pass(loaded, packed, features)
    looking, learning = _pass(loaded, packed, features)
    tokens, pictures = packed.input_ids.shape[1], max(1, len(packed.pictures))
    if learns:
        return MeasuredRate(token=(looking + learning) / tokens, picture=0.0)
    return MeasuredRate(token=learning / tokens, picture=looking / pictures)


def _pass(loaded: LoadedModel, row: PackedRow, features: Features) -> tuple[float, float]:
    """Seconds in the tower, and in the rest, forward and backward."""
    import torch

    def now() -> float:
        if loaded.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    model: Any = loaded.model
    began = now()
    seen = features.of(row.pictures) if row.pictures else None
    looked = now()
    with computing(loaded):
        loss = row_loss(model, row, seen)
    if loss.requires_grad:  # not where the projector alone learns and the row has no picture
        loss.backward()
    learned = now()
    model.zero_grad(set_to_none=True)
    return looked - began, learned - looked
