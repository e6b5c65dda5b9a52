"""Which samples a step learns from, and which of them share a row: every sample once an epoch, nothing cropped.

A step is `batch_size` samples. Where samples about one picture may share its tokens, pictures are shuffled instead of
samples, so that a picture's questions meet: the tokens of a picture are then laid once, and a step sees fewer pictures.
Rows decide speed and memory alone, never the loss: a step's samples are the same for every `max_tokens`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, overload

from llavamed_cli.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy

Row = tuple[int, ...]
"""Indices of the samples that share a row; those that share a prefix stand side by side."""
Step = list[Row]


class Shapes(Protocol):
    """What planning needs to know of n samples (an `ExampleSet` knows it): four int64 arrays [n].

    picture_keys: the same for samples with the same pictures, -1 for none. prefix_lengths: tokens up to and with the
    last picture, before anything is learned; 0 where nothing can be shared.
    """

    @property
    def lengths(self) -> numpy.ndarray: ...
    @property
    def picture_keys(self) -> numpy.ndarray: ...
    @property
    def picture_counts(self) -> numpy.ndarray: ...
    @property
    def prefix_lengths(self) -> numpy.ndarray: ...


ShapeOf = dict[int, tuple[int, int, int]]
"""A sample's length, prefix length and count of pictures."""


@dataclass(frozen=True)
class _Item:
    """What goes into a row as one: a sample, or samples around one prefix."""

    tokens: int
    pictures: int
    samples: Row


@dataclass(frozen=True)
class Fill:
    """How well samples were packed.

    tokens: of the samples. laid: what is computed for them, shared prefixes counted once. room: what the rows hold.
    """

    rows: int
    tokens: int
    laid: int
    room: int

    @property
    def share(self) -> float:
        """The share of the rows' room that is used."""
        return self.laid / self.room

    @property
    def saved(self) -> float:
        """How many times the tokens that are computed the samples' tokens are: what sharing pictures saves."""
        return self.tokens / self.laid


class EpochPlan(Sequence[Step]):
    """The steps of one epoch, laid out a window at a time as they are asked for.

    The same for the same samples, recipe, seed and epoch, wherever it is entered: a resumed run asks for step 4,000
    first and waits for one window.
    """

    def __init__(self, samples: Shapes, recipe: Recipe, *, seed: int, epoch: int) -> None:
        import numpy

        self._samples = samples
        self._batch = recipe.batch_size
        self._window = recipe.window
        self._max_tokens = recipe.max_tokens
        self._max_pictures = recipe.max_pictures
        random = numpy.random.default_rng([seed, epoch])
        self._groups = _groups(samples) if recipe.share_pictures else numpy.arange(len(samples.lengths))
        places = random.permutation(len(self._groups))[self._groups]
        self._order = numpy.lexsort((random.random(len(places)), places))
        self._laid: tuple[int, list[Step]] = -1, []

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch)

    @overload
    def __getitem__(self, step: int) -> Step: ...
    @overload
    def __getitem__(self, step: slice) -> list[Step]: ...
    def __getitem__(self, step: int | slice) -> Step | list[Step]:
        if isinstance(step, slice):
            return [self[number] for number in range(*step.indices(len(self)))]
        if not -len(self) <= step < len(self):
            raise IndexError(f"step {step} of {len(self)}")
        window, place = divmod(step % len(self), self._window)
        if self._laid[0] != window:
            self._laid = window, list(self._lay(window))
        return self._laid[1][place]

    def _lay(self, window: int) -> Iterator[Step]:
        import numpy

        size = self._window * self._batch
        order = self._order[window * size : (window + 1) * size]
        borders = numpy.flatnonzero(numpy.diff(self._groups[order])) + 1
        groups = [part.tolist() for part in numpy.split(order, borders)]
        known = self._samples.lengths, self._samples.prefix_lengths, self._samples.picture_counts
        shapes = dict(zip(order.tolist(), zip(*(array[order].tolist() for array in known), strict=True), strict=True))
        for step in _deal(groups, len(order), self._batch):
            items = [item for group in step for item in _items(group, shapes, self._max_tokens)]
            yield [item.samples for item in _first_fit(items, self._max_tokens, self._max_pictures)]

    def fill(self, steps: int | None = None) -> Fill:
        """How full the rows of the first `steps` steps are; of all of them where it is None."""
        import numpy

        rows = [row for step in self[:steps] for row in step]
        samples = numpy.asarray([index for row in rows for index in row], dtype=numpy.int64)
        row_of = numpy.repeat(numpy.arange(len(rows)), [len(row) for row in rows])
        lengths, prefixes = self._samples.lengths[samples], self._samples.prefix_lengths[samples]
        _, first = numpy.unique(row_of * len(self._groups) + self._groups[samples], return_index=True)
        laid_before = numpy.ones(len(samples), dtype=bool)
        laid_before[first] = False
        laid = numpy.bincount(row_of, lengths - prefixes * laid_before).astype(numpy.int64)
        return Fill(
            rows=len(rows),
            tokens=int(lengths.sum()),
            laid=int(laid.sum()),
            room=int(numpy.maximum(laid, self._max_tokens).sum()),
        )


def plan_epoch(samples: Shapes, recipe: Recipe, *, seed: int, epoch: int) -> EpochPlan:
    """The steps of an epoch: each a list of rows, each row the indices of its samples."""
    return EpochPlan(samples, recipe, seed=seed, epoch=epoch)


def _groups(samples: Shapes) -> numpy.ndarray:
    """For each sample the number of its group, below n: those with the same pictures after equally many tokens."""
    import numpy

    count = len(samples.lengths)
    alone = (samples.picture_keys < 0) | (samples.prefix_lengths <= 0)
    _, pictures = numpy.unique(samples.picture_keys, return_inverse=True)
    together = pictures * (int(samples.prefix_lengths.max(initial=0)) + 1) + samples.prefix_lengths
    _, groups = numpy.unique(numpy.where(alone, -1 - numpy.arange(count), together), return_inverse=True)
    return groups


def _deal(groups: Iterable[list[int]], samples: int, batch: int) -> list[list[list[int]]]:
    """Deal groups, in their order, to steps of `batch` samples, whole where they fit; the last step may be short."""
    steps = -(-samples // batch)
    room = [batch] * (steps - 1) + [samples - batch * (steps - 1)]
    dealt: list[list[list[int]]] = [[] for _ in room]
    first = 0
    for group in groups:
        while group:
            while not room[first]:
                first += 1
            open_ = range(first, steps)
            place = next((number for number in open_ if room[number] >= len(group)), None)
            if place is None:
                place = max(open_, key=room.__getitem__)
            part, group = group[: room[place]], group[room[place] :]
            dealt[place].append(part)
            room[place] -= len(part)
    return dealt


def _items(group: Sequence[int], shapes: ShapeOf, max_tokens: int) -> list[_Item]:
    """What a group brings into rows: one item, or several with the prefix repeated where it is longer than a row."""
    length, prefix, pictures = shapes[group[0]]
    if len(group) == 1:
        return [_Item(length, pictures, tuple(group))]
    branches = [_Item(shapes[index][0] - prefix, 0, (index,)) for index in group]
    return [
        _Item(prefix + row.tokens, pictures, row.samples) for row in _first_fit(branches, max_tokens - prefix, pictures)
    ]


def _first_fit(items: Iterable[_Item], max_tokens: int, max_pictures: int) -> list[_Item]:
    """First-fit decreasing: the longest first, each into the first row with room; one beyond the budget is alone."""
    rows: list[list[_Item]] = []
    room: list[int] = []
    seats: list[int] = []
    for item in sorted(items, key=lambda item: -item.tokens):
        for place, left in enumerate(room):
            if left >= item.tokens and seats[place] >= item.pictures:
                break
        else:
            place = len(rows)
            rows.append([])
            room.append(max_tokens)
            seats.append(max_pictures)
        rows[place].append(item)
        room[place] -= item.tokens
        seats[place] -= item.pictures
    return [
        _Item(
            sum(item.tokens for item in row),
            sum(item.pictures for item in row),
            tuple(index for item in row for index in item.samples),
        )
        for row in rows
    ]
