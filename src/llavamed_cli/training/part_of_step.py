"""One process's part of a step: its rows, led through the model one after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.errors import PictureError
from llavamed_cli.training.deal import deal
from llavamed_cli.training.layout import PackedRow, lay_row
from llavamed_cli.training.packing import Row, Step

if TYPE_CHECKING:
    import torch

    from llavamed_cli.training.learner import Learner
    from llavamed_cli.training.loop import Training


def learn_part(of: Training, learner: Learner, rows: Step, learned: int) -> tuple[float, int]:
    """Add up the gradients of this process's rows; return its part of the mean loss over `learned` tokens of the whole
    step, and how many tokens its rows have.

    Raises:
        DataError: a picture is gone or was changed since training began. PictureError: it cannot be read.
    """
    hands = deal(of.examples, rows, of.world.size)
    mine = hands[of.world.rank]
    of.examples.require_pictures([index for row in mine for index in row])
    loss, tokens = 0.0, 0
    for row in mine:
        packed = _laid(of, row)
        loss += learner.add(packed, _eyes(of, row), learned)
        tokens += packed.input_ids.shape[1]
    if learner.sharded:
        shortest = min(rows, key=lambda row: int(of.examples.lengths[list(row)].sum()))
        for _ in range(max(map(len, hands)) - len(mine)):
            learner.pad(_laid(of, shortest), _eyes(of, shortest))
    return loss, tokens


def _laid(of: Training, row: Row) -> PackedRow:
    return lay_row(of.examples, row, share=of.recipe.share_pictures).to(of.loaded.device)


def _eyes(of: Training, row: Row) -> Callable[[tuple[Path, ...]], torch.Tensor]:
    """What sees a row's pictures; one that is gone since the step began is named with its records."""

    def see(pictures: tuple[Path, ...]) -> torch.Tensor:
        try:
            return of.features.of(pictures)
        except PictureError:
            of.examples.require_pictures(row)
            raise

    return see
