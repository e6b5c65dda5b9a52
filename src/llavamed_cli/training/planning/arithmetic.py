"""How many floating-point operations a run takes: the rule of 6 N D, and where training takes less or more than that.

A token going forward through a matrix of N numbers takes 2 N operations, a multiplication and an addition for each
(Kaplan et al., arXiv 2001.08361, section 2.1). On the way back the gradient of its input takes 2 N again, and that of
the matrix 2 N where it learns: 6 N, or 4 N through frozen weights. Gradient checkpointing computes layers forward once
more, up to the last value that is needed: what goes into their last matrix. Norms and activations are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from llavamed_cli.training.planning.epoch import EpochCount
from llavamed_cli.training.planning.model_sizes import PROJECTOR, TOWER, ModelSizes
from llavamed_cli.training.recipe import Recipe


@dataclass(frozen=True)
class WorkPart:
    """Operations, what they are for, and how they were counted."""

    name: str
    operations: float
    how: str


@dataclass(frozen=True)
class Work:
    """All operations of a run."""

    parts: tuple[WorkPart, ...]

    @property
    def total(self) -> float:
        """Together."""
        return sum(part.operations for part in self.parts)

    def lines(self) -> list[str]:
        """A part a line, with its arithmetic."""
        shown = [part for part in self.parts if part.operations]
        return [f"{part.name:<34}{part.operations:>8.1e}     {part.how}" for part in shown]


def count_work(sizes: ModelSizes, recipe: Recipe, epoch: EpochCount, steps: int) -> Work:
    """The operations of a run of `steps` steps."""
    epochs = steps / epoch.steps
    tokens, pairs, learned = (round(one * epochs) for one in (epoch.laid, epoch.pairs, epoch.supervised))
    frozen, trained = sizes.matrices - sizes.trained_matrices, sizes.trained_matrices
    spared, spared_trained = sizes.spared
    last = sizes.largest[0]  # of a layer's matrices, the last: nobody needs its output again
    again = sizes.matrices - sizes.depth * last if recipe.gradient_checkpointing else 0
    passes, head_times = 4 if again else 3, 6 if sizes.head_trained else 4

    def through(times: int, numbers: int, spared: int) -> tuple[int, str]:
        """Operations of matrices that all tokens go through, but for some that only graded ones do."""
        ungraded = tokens - learned
        less = f" - {spared:,} x {ungraded:,} ungraded" if spared else ""
        return times * (numbers * tokens - spared * ungraded), f"{times} x ({numbers:,} x {tokens:,} tokens{less})"

    of_words = (
        ("language model, frozen matrices", *through(4, frozen, spared - spared_trained)),
        ("language model, what learns", *through(6, trained, spared_trained)),
        ("layers again, checkpointed", *through(2, again, max(0, spared - last) if again else 0)),
        (
            "attention",
            passes * 4 * sizes.queries * sizes.depth * pairs,
            f"{passes} x 4 x {sizes.queries:,} x {sizes.depth} layers x {pairs:,} pairs",
        ),
        (
            "output head",
            head_times * sizes.head * learned,
            f"{head_times} x {sizes.head:,} x {learned:,} supervised tokens",
        ),
    )
    return Work((*(WorkPart(*part) for part in of_words), *_of_pictures(sizes, recipe, epoch, epochs)))


def _of_pictures(sizes: ModelSizes, recipe: Recipe, epoch: EpochCount, epochs: float) -> list[WorkPart]:
    """A frozen tower sees a picture once, if what it saw is kept; attention in it is each token to each."""
    looks = round(epoch.looks * epochs)
    times = 6 if sizes.of(PROJECTOR, trained=True) else 4
    projector = sizes.of(PROJECTOR)
    kept = recipe.cache_features != "off" and not sizes.tower_trained
    views = min(looks, epoch.pictures) if kept else looks
    layers, width, _ = sizes.tower
    each = 2 * sizes.of(TOWER) * sizes.seen + 4 * layers * width * sizes.seen**2
    passes = 3 if sizes.tower_trained else 1
    once = ", each seen once" if kept else ""
    return [
        WorkPart(
            "projector",
            times * projector * sizes.picture * looks,
            f"{times} x {projector:,} x {sizes.picture} tokens x {looks:,} pictures",
        ),
        WorkPart("vision tower", passes * each * views, f"{passes} x {each:.2e} x {views:,} pictures{once}"),
    ]
