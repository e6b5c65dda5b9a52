"""Which samples a step learns from, and how they share rows without padding.

A step is `batch_size` samples of a shuffled epoch. They are laid side by side into rows of at most `max_tokens`; inside
a row attention never crosses from one sample to another. So packing decides speed and memory, and never the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.training.samples import Example

if TYPE_CHECKING:
    import torch

Row = tuple[int, ...]
"""Indices of the samples that share a row."""


@dataclass(frozen=True)
class PackedRow:
    """Several examples in one row of T tokens, S of them supervised.

    input_ids: int64 [1, T]. position_ids: int64 [1, T], from 0 again at each example, which is how transformers tells
    the examples apart. predictors: int64 [S], the positions whose next token is learned. targets: int64 [S], those
    tokens. pictures: in the order of their places in the row.
    """

    input_ids: torch.Tensor = field(repr=False)
    position_ids: torch.Tensor = field(repr=False)
    predictors: torch.Tensor = field(repr=False)
    targets: torch.Tensor = field(repr=False)
    pictures: tuple[Path, ...]


def plan_epoch(lengths: Sequence[int], *, batch_size: int, max_tokens: int, seed: int, epoch: int) -> list[list[Row]]:
    """The steps of one epoch, each a list of rows: the same for the same arguments, every sample exactly once."""
    import numpy

    order = numpy.random.default_rng([seed, epoch]).permutation(len(lengths)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [pack(batch, lengths, max_tokens) for batch in batches]


def pack(batch: Sequence[int], lengths: Sequence[int], max_tokens: int) -> list[Row]:
    """First-fit decreasing: the longest first, each into the first row with room; one beyond the budget is alone."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(batch, key=lambda index: -lengths[index]):
        length = lengths[index]
        place = next((number for number, left in enumerate(room) if left >= length), None)
        if place is None:
            rows.append([])
            room.append(max_tokens)
            place = len(rows) - 1
        rows[place].append(index)
        room[place] -= length
    return [tuple(row) for row in rows]


def collate(examples: Sequence[Example]) -> PackedRow:
    """Lay examples side by side. The first token of an example has no predictor: nothing precedes it."""
    import numpy
    import torch

    ids = numpy.concatenate([example.input_ids for example in examples]).astype(numpy.int64)
    positions = numpy.concatenate([numpy.arange(len(example.input_ids)) for example in examples])
    learned = numpy.concatenate([example.supervised for example in examples]) & (positions > 0)
    targets = numpy.flatnonzero(learned)
    return PackedRow(
        input_ids=torch.from_numpy(ids)[None],
        position_ids=torch.from_numpy(positions)[None],
        predictors=torch.from_numpy(targets - 1),
        targets=torch.from_numpy(ids[targets]),
        pictures=tuple(path for example in examples for path in example.pictures),
    )


def supervised_tokens(example: Example) -> int:
    """How many tokens of an example are learned."""
    return int(example.supervised[1:].sum())
