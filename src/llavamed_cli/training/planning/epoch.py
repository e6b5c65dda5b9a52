"""What an epoch holds once it is packed: steps, rows, tokens, pictures, and pairs of tokens that see each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llavamed_cli.training.packing import Row, Shapes, Step, plan_epoch
from llavamed_cli.training.planning.memory import RowSize
from llavamed_cli.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy

STEPS_LAID_OUT = 200
"""Packing is looked at over this many steps; an epoch of half a million samples is like its beginning."""


class CountedSamples(Shapes, Protocol):
    """What a plan needs to know of n samples; an `ExampleSet` knows it, and so does a table of lengths."""

    @property
    def supervised(self) -> numpy.ndarray: ...
    @property
    def pictures(self) -> int: ...


@dataclass(frozen=True)
class EpochCount:
    """One pass through the data.

    samples, pictures (different ones), tokens and supervised are the data's. steps; rows in all; laid: tokens that are
    computed, those of a picture once for all its samples in a row; fill: the share of the rows' room that they take.
    looks: how often a picture is met. pairs: how many pairs of a token and one that it sees. largest: the most that a
    row holds of each.
    """

    samples: int
    pictures: int
    tokens: int
    supervised: int
    steps: int
    rows: int
    laid: int
    fill: float
    looks: int
    pairs: int
    largest: RowSize


def count_epoch(samples: CountedSamples, recipe: Recipe, *, seed: int) -> EpochCount:
    """Lay an epoch out (its first steps, where there are many) and count."""
    plan = plan_epoch(samples, recipe, seed=seed, epoch=0)
    steps = plan[:STEPS_LAID_OUT]
    rows = [_count_row(samples, row, share=recipe.share_pictures) for row in _rows(steps)]
    part = sum(row.tokens for row in rows) / int(samples.lengths.sum())
    laid = sum(row.size.tokens for row in rows)
    return EpochCount(
        samples=len(samples.lengths),
        pictures=samples.pictures,
        tokens=int(samples.lengths.sum()),
        supervised=int(samples.supervised.sum()),
        steps=len(plan),
        rows=round(len(rows) / part),
        laid=round(laid / part),
        fill=laid / sum(max(row.size.tokens, recipe.max_tokens) for row in rows),
        looks=round(sum(row.size.pictures for row in rows) / part),
        pairs=round(sum(row.pairs for row in rows) / part),
        largest=largest_of([row.size for row in rows]),
    )


def row_size(samples: CountedSamples, row: Row, *, share: bool) -> RowSize:
    """What one row holds."""
    return _count_row(samples, row, share=share).size


def largest_of(rows: list[RowSize]) -> RowSize:
    """The most that any of some rows holds of each."""
    return RowSize(
        tokens=max(row.tokens for row in rows),
        learned=max(row.learned for row in rows),
        pictures=max(row.pictures for row in rows),
        keys=max(row.keys for row in rows),
    )


@dataclass(frozen=True)
class _RowCount:
    """tokens: of its samples, before any are shared."""

    size: RowSize
    tokens: int
    pairs: int


def _rows(steps: list[Step]) -> Iterator[Row]:
    for step in steps:
        yield from step


def _count_row(samples: CountedSamples, row: Row, *, share: bool) -> _RowCount:
    """A token sees itself and what stands before it in its sample: of n tokens that makes n (n + 1) / 2 pairs. Of
    samples that share a prefix of p tokens, each but the first adds b tokens, and b p + b (b + 1) / 2 pairs."""
    laid = tokens = pairs = pictures = keys = learned = 0
    seen: dict[tuple[int, int], bool] = {}
    for index in row:
        length, prefix = int(samples.lengths[index]), int(samples.prefix_lengths[index])
        learned += int(samples.supervised[index])
        tokens += length
        keys += length
        key = int(samples.picture_keys[index]), prefix
        if share and prefix > 0 and key in seen:
            keys += 0 if seen[key] else prefix  # the shared prefix reads itself, beside its branches
            seen[key] = True
            branch = length - prefix
            laid += branch
            pairs += branch * prefix + branch * (branch + 1) // 2
            continue
        seen[key] = False
        laid += length
        pairs += length * (length + 1) // 2
        pictures += int(samples.picture_counts[index])
    return _RowCount(RowSize(tokens=laid, learned=learned, pictures=pictures, keys=keys), tokens, pairs)
