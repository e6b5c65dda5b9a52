"""Samples laid into a row: read back sample by sample, a row is what was put in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.training.examples import Example, ExampleSet
from llavamed_cli.training.layout import PackedRow, collate, common_length, lay_row, supervised_tokens
from llavamed_cli.training.packing import plan_epoch
from llavamed_cli.training.recipe import Recipe

PICTURE = 9


def example(ids: Sequence[int], supervised: Sequence[int], *pictures: str) -> Example:
    return Example(
        id="x",
        input_ids=numpy.asarray(ids, dtype=numpy.int32),
        supervised=numpy.asarray(supervised, dtype=bool),
        pictures=tuple(Path(name) for name in pictures),
    )


def names(row: PackedRow) -> list[str]:
    return [path.name for path in row.pictures]


def test_a_row_of_strangers_by_hand() -> None:
    first, second = example([5, 6, 7, 8], [0, 0, 1, 1], "a.png"), example([9, 3, 4], [1, 1, 0], "b.png", "c.png")
    row = collate([first, second])
    assert row.input_ids.tolist() == [[5, 6, 7, 8, 9, 3, 4]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert row.predictors.tolist() == [1, 2, 4]  # token 9 begins its example: nothing stands before it
    assert row.targets.tolist() == [7, 8, 3]
    assert names(row) == ["a.png", "b.png", "c.png"]
    assert row.segments.spans == ((0, 4), (4, 7))
    assert row.segments.prefixes == (None, None)
    assert [supervised_tokens(one) for one in (first, second)] == [2, 1]


def test_a_row_around_one_picture_by_hand() -> None:
    row = collate(
        [
            example([1, 9, 9, 2, 3, 4], [0, 0, 0, 0, 0, 1], "a.png"),
            example([8, 7], [0, 1]),
            example([1, 9, 9, 2, 5], [0, 0, 0, 0, 1], "a.png"),  # what is learned comes right after the prefix
            example([1, 9, 9, 2, 6, 4, 3], [0, 0, 0, 0, 1, 0, 1], "a.png"),
        ],
        prefixes=[3, 0, 3, 3],
    )
    # token 2 is no picture's, and yet all go on with it: it is shared as well
    assert row.input_ids.tolist() == [[1, 9, 9, 2, 3, 4, 5, 6, 4, 3, 8, 7]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 4, 5, 4, 4, 5, 6, 0, 1]]
    assert row.segments.spans == ((0, 4), (4, 6), (6, 7), (7, 10), (10, 12))
    assert row.segments.prefixes == (None, (0, 4), (0, 4), (0, 4), None)
    assert row.predictors.tolist() == [4, 3, 3, 8, 10]  # the prefix's last token predicts for two
    assert row.targets.tolist() == [4, 5, 6, 3, 7]
    assert names(row) == ["a.png"]


@pytest.mark.parametrize(
    ("second", "prefix"),
    [
        (example([1, 9, 9, 4], [0, 0, 0, 1], "b.png"), 3),  # another picture
        (example([2, 9, 9, 4], [0, 0, 0, 1], "a.png"), 3),  # another beginning
        (example([1, 1, 9, 9, 4], [0, 0, 0, 0, 1], "a.png"), 4),  # the picture stands elsewhere
        (example([1, 9, 9, 4], [0, 1, 0, 1], "a.png"), 3),  # something in it is learned
        (example([1, 9, 9], [0, 0, 0], "a.png"), 3),  # nothing would be left
        (example([1, 9, 9, 4], [0, 0, 0, 1], "a.png"), 0),  # said not to
        (example([1, 9, 9, 9, 9, 4], [0, 0, 0, 0, 0, 1], "a.png", "a.png"), 5),  # one picture more
    ],
)
def test_what_cannot_be_shared_stands_alone(second: Example, prefix: int) -> None:
    first = example([1, 9, 9, 3], [0, 0, 0, 1], "a.png")
    row = collate([first, second], prefixes=[3, prefix])
    assert not row.segments.shared
    assert row.input_ids.tolist() == [[*first.input_ids, *second.input_ids]]
    assert names(row) == [path.name for one in (first, second) for path in one.pictures]


def test_what_examples_have_in_common_ends_before_anything_is_learned() -> None:
    first, second = example([1, 9, 2, 3, 3], [0, 0, 0, 1, 1]), example([1, 9, 2, 3, 4], [0, 0, 0, 0, 1])
    assert common_length([first, second]) == 3
    assert common_length([second, second]) == 4
    unlearned = example([1, 9, 2], [0, 0, 0])
    assert common_length([unlearned, unlearned]) == 2  # one token is left to each


@st.composite
def samples(draw: st.DrawFn) -> tuple[list[Example], list[int]]:
    """Samples about few pictures, with few different words, so that much is in common."""
    found, prefixes = [], []
    for _ in range(draw(st.integers(1, 7))):
        pictures = draw(st.sampled_from([(), ("a",), ("b",), ("a", "b")]))
        start = draw(st.integers(1, 2))
        head = [1] * start + [PICTURE, PICTURE] * len(pictures)
        tail = draw(st.lists(st.tuples(st.integers(2, 3), st.booleans()), min_size=1, max_size=5))
        found.append(
            example([*head, *(word for word, _ in tail)], [*[0] * len(head), *(one for _, one in tail)], *pictures)
        )
        prefixes.append(len(head) if pictures else 0)
    return found, prefixes


@given(samples())
def test_a_row_read_back_branch_by_branch_holds_every_sample_as_it_was(given_: tuple[list[Example], list[int]]) -> None:
    examples, prefixes = given_
    row = collate(examples, prefixes=prefixes)
    ids, positions = row.input_ids[0].tolist(), row.position_ids[0].tolist()
    assert row.segments.length == len(ids) == len(positions) <= sum(len(one.input_ids) for one in examples)
    used_as_prefix = {prefix for prefix in row.segments.prefixes if prefix}
    learned = list(zip(row.predictors.tolist(), row.targets.tolist(), strict=True))
    assert sorted(target for _, target in learned) == sorted(
        token for one in examples for token in one.input_ids[one.supervised].tolist()
    )
    read = []
    for span, prefix in zip(row.segments.spans, row.segments.prefixes, strict=True):
        if span in used_as_prefix:
            continue
        places = [*(range(*prefix) if prefix else ()), *range(*span)]
        assert [positions[place] for place in places] == list(range(len(places)))
        own = set(range(*span))
        mine = [(place, before) for before, place in pairwise(places) if place in own]
        told = {place: before for place, before in mine if (before, ids[place]) in learned}
        read.append((tuple(ids[place] for place in places), len(told)))
    expected = [(tuple(one.input_ids.tolist()), supervised_tokens(one)) for one in examples]
    assert sorted(tokens for tokens, _ in read) == sorted(tokens for tokens, _ in expected)
    assert ids.count(PICTURE) == 2 * len(row.pictures)


@given(samples())
def test_samples_that_share_nothing_are_laid_as_they_are(given_: tuple[list[Example], list[int]]) -> None:
    examples, _ = given_
    row = collate(examples)
    assert row.input_ids[0].tolist() == [token for one in examples for token in one.input_ids.tolist()]
    assert not row.segments.shared
    assert [end - start for start, end in row.segments.spans] == [len(one.input_ids) for one in examples]


def test_a_planned_row_of_a_data_set_is_read_and_laid(examples: ExampleSet) -> None:
    """The sample about the same picture twice stands for two questions about it."""
    (step,) = plan_epoch(examples, Recipe(batch_size=len(examples), max_tokens=100_000), seed=0, epoch=0)
    (planned,) = step
    row = lay_row(examples, planned, share=True)
    assert sorted(planned) == list(range(len(examples)))
    assert len(row.targets) == sum(supervised_tokens(one) for one in examples)
    twice = next(index for index in planned if examples.prefix_lengths[index])
    shared, apart = (lay_row(examples, (twice, twice), share=share) for share in (True, False))
    length, prefix = int(examples.lengths[twice]), int(examples.prefix_lengths[twice])
    assert apart.segments.length == 2 * length
    assert shared.segments.length <= 2 * length - prefix
    assert len(apart.pictures) == 2 * len(shared.pictures) == 2 * len(examples[twice].pictures)
