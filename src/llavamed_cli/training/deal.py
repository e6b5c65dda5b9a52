"""Which process takes which rows of a step, so that all have about as many tokens to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llavamed_cli.training.examples import ExampleSet
    from llavamed_cli.training.packing import Row, Step


def deal(examples: ExampleSet, step: Step, size: int) -> list[list[Row]]:
    """A step's rows for each of `size` processes: the longest first, each to the process with the fewest tokens."""
    hands: list[list[Row]] = [[] for _ in range(size)]
    tokens = [0] * size
    laid = {row: _laid(examples, row) for row in step}
    for row in sorted(step, key=lambda row: -laid[row]):
        place = tokens.index(min(tokens))
        hands[place].append(row)
        tokens[place] += laid[row]
    return hands


def _laid(examples: ExampleSet, row: Sequence[int]) -> int:
    """The tokens a row is laid with, prefixes that samples share counted once."""
    chosen = list(row)
    keys, prefixes = examples.picture_keys[chosen].tolist(), examples.prefix_lengths[chosen].tolist()
    together = {(key, prefix) for key, prefix in zip(keys, prefixes, strict=True) if key >= 0 and prefix > 0}
    shared = sum(prefix for key, prefix in zip(keys, prefixes, strict=True) if key >= 0 and prefix > 0)
    return int(examples.lengths[chosen].sum()) - shared + sum(prefix for _, prefix in together)
