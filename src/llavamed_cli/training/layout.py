"""Samples laid into one row of tokens, those about the same pictures around one copy of what they have in common.

The samples of a picture begin alike: a system prompt, the picture, perhaps the first words of the question. That much
is laid once, as a prefix, and each sample goes on from it as a branch that does not see the others. Nothing that is
learned lies in a prefix, so the loss and its gradient are those of the samples apart, for a fraction of the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.model.segments import Segments, Span
from llavamed_cli.training.examples import Example, ExampleSet

if TYPE_CHECKING:
    import numpy
    import torch


@dataclass(frozen=True)
class PackedRow:
    """Several examples in one row of T tokens, S tokens of them learned.

    input_ids: int64 [1, T]. position_ids: int64 [1, T], each token's place in its own sample. predictors: int64 [S],
    the places in the row whose next token is learned; the last one of a prefix stands there once for each branch that
    begins with a learned token. targets: int64 [S], those tokens. pictures: in the order of their places in the row.
    segments: which tokens see each other.
    """

    input_ids: torch.Tensor = field(repr=False)
    position_ids: torch.Tensor = field(repr=False)
    predictors: torch.Tensor = field(repr=False)
    targets: torch.Tensor = field(repr=False)
    pictures: tuple[Path, ...]
    segments: Segments = field(repr=False)

    def to(self, device: str) -> PackedRow:
        """The row with its tensors on a device."""
        names = ("input_ids", "position_ids", "predictors", "targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def lay_row(examples: ExampleSet, row: Sequence[int], *, share: bool) -> PackedRow:
    """Read a planned row's samples and lay them; `share` as the plan was made with."""
    chosen = [examples[index] for index in row]
    return collate(chosen, prefixes=examples.prefix_lengths[list(row)].tolist() if share else None)


def collate(examples: Sequence[Example], *, prefixes: Sequence[int] | None = None) -> PackedRow:
    """Lay examples into a row.

    Args:
        prefixes: for each example, how many tokens reach up to and with its last picture, before anything is learned
            (`ExampleSet.prefix_lengths`). Examples with the same pictures that agree so far share all they agree on.
            None: every example stands alone.

    The first token of an example is never learned: nothing precedes it.
    """
    import numpy
    import torch

    ids: list[numpy.ndarray] = []
    spans: list[Span] = []
    befores: list[Span | None] = []
    predictors: list[numpy.ndarray] = []
    targets: list[numpy.ndarray] = []
    pictures: list[Path] = []
    end = 0

    def lay(tokens: numpy.ndarray, before: Span | None) -> Span:
        nonlocal end
        span = end, end + len(tokens)
        end = span[1]
        ids.append(tokens)
        spans.append(span)
        befores.append(before)
        return span

    for group in _groups(examples, prefixes):
        common = common_length([examples[index] for index in group]) if len(group) > 1 else 0
        first = examples[group[0]]
        prefix = lay(first.input_ids[:common], None) if common else None
        pictures += first.pictures
        for index in group:
            example = examples[index]
            start, _ = lay(example.input_ids[common:], prefix)
            learned = numpy.flatnonzero(example.supervised[1:]) + 1
            places = learned - 1 - common + start
            if prefix:
                places[learned == common] = prefix[1] - 1
            predictors.append(places)
            targets.append(example.input_ids[learned])
    segments = Segments(tuple(spans), tuple(befores))
    return PackedRow(
        input_ids=torch.from_numpy(numpy.concatenate(ids).astype(numpy.int64))[None],
        position_ids=torch.tensor(segments.positions)[None],
        predictors=torch.from_numpy(numpy.concatenate(predictors)),
        targets=torch.from_numpy(numpy.concatenate(targets).astype(numpy.int64)),
        pictures=tuple(pictures),
        segments=segments,
    )


def _groups(examples: Sequence[Example], prefixes: Sequence[int] | None) -> list[list[int]]:
    """Which examples share a prefix, in order of first appearance."""
    groups: dict[object, list[int]] = {}
    for index, example in enumerate(examples):
        prefix = int(prefixes[index]) if prefixes is not None and example.pictures else 0
        sharable = 0 < prefix <= _unlearned(example)
        alike = (example.pictures, example.input_ids[:prefix].tobytes()) if sharable else index
        groups.setdefault(alike, []).append(index)
    return list(groups.values())


def common_length(examples: Sequence[Example]) -> int:
    """How many tokens all examples begin with, before any learns and leaving each one token at least."""
    import numpy

    limit = min(_unlearned(example) for example in examples)
    same = numpy.ones(limit, dtype=bool)
    for example in examples[1:]:
        same &= example.input_ids[:limit] == examples[0].input_ids[:limit]
    return limit if same.all() else int(same.argmin())


def _unlearned(example: Example) -> int:
    """How many tokens stand before the first learned one, or before the last one where none is learned."""
    import numpy

    return min([len(example.input_ids) - 1, *numpy.flatnonzero(example.supervised)[:1].tolist()])


def supervised_tokens(example: Example) -> int:
    """How many tokens of an example are learned."""
    return int(example.supervised[1:].sum())
