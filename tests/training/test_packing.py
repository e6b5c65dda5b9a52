"""An epoch's plan: every sample once, pictures kept together, rows within the budget, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.training.packing import EpochPlan, Fill, Step, plan_epoch
from llavamed_cli.training.recipe import Recipe


@dataclass(frozen=True)
class Samples:
    """What a plan is made from."""

    lengths: numpy.ndarray = field(repr=False)
    picture_keys: numpy.ndarray = field(repr=False)
    picture_counts: numpy.ndarray = field(repr=False)
    prefix_lengths: numpy.ndarray = field(repr=False)

    @classmethod
    def of(cls, *samples: tuple[int, int, int, int]) -> Samples:
        """From (length, picture key, count of pictures, prefix) of each."""
        return cls(*(numpy.asarray(column, dtype=numpy.int64) for column in zip(*samples, strict=True)))


def words(*lengths: int) -> Samples:
    """Samples without pictures."""
    return Samples.of(*((length, -1, 0, 0) for length in lengths))


def questions(pictures: int, each: int, *, prefix: int = 30, own: int = 5) -> Samples:
    """So many questions about each of some pictures."""
    return Samples.of(*((prefix + own, key, 1, prefix) for key in range(pictures) for _ in range(each)))


@st.composite
def any_samples(draw: st.DrawFn) -> Samples:
    pictures = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20)), min_size=1, max_size=6))
    found = []
    for _ in range(draw(st.integers(1, 40))):
        key = draw(st.integers(0, len(pictures) - 1))
        count, prefix = pictures[key]
        own = draw(st.integers(1, 60))
        shift = draw(st.integers(0, 1)) if count and prefix else 0  # another system prompt
        found.append((prefix + shift + own, key, count, prefix + shift) if count else (own, -1, 0, 0))
    return Samples.of(*found)


recipes = st.builds(
    Recipe,
    batch_size=st.integers(1, 12),
    max_tokens=st.integers(1, 100),
    window=st.integers(1, 4),
    max_pictures=st.integers(1, 4),
    share_pictures=st.booleans(),
)


def members(step: Step) -> list[int]:
    return [index for row in step for index in row]


def in_order(plan: EpochPlan) -> list[int]:
    return [index for step in plan for index in members(step)]


def row_tokens(samples: Samples, row: tuple[int, ...], share: bool) -> int:
    """What a row takes, the plainest way: a prefix for each new picture, the rest of every sample."""
    prefixes = {
        (int(samples.picture_keys[index]), int(samples.prefix_lengths[index]))
        for index in row
        if share and samples.picture_counts[index]
    }
    owned = (int(samples.lengths[i] - (samples.prefix_lengths[i] if share else 0)) for i in row)
    return sum(owned) + sum(prefix for _, prefix in prefixes)


@given(any_samples(), recipes, st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_holds_every_sample_once_in_steps_and_rows_of_the_size_asked_for(
    samples: Samples, recipe: Recipe, seed: int, epoch: int
) -> None:
    plan = plan_epoch(samples, recipe, seed=seed, epoch=epoch)
    assert sorted(in_order(plan)) == list(range(len(samples.lengths)))
    assert [sum(map(len, step)) for step in plan[:-1]] == [recipe.batch_size] * (len(plan) - 1)
    for step in plan:
        for row in step:
            assert len(row) == 1 or row_tokens(samples, row, recipe.share_pictures) <= recipe.max_tokens
            keys = samples.picture_keys[list(row)].tolist() if recipe.share_pictures else row
            counts = dict(zip(keys, samples.picture_counts[list(row)].tolist(), strict=True))
            assert len(counts) == 1 or sum(counts.values()) <= max(recipe.max_pictures, *counts.values())


@given(any_samples(), recipes, st.integers(0, 5), st.data())
def test_a_plan_is_the_same_wherever_it_is_entered(
    samples: Samples, recipe: Recipe, seed: int, data: st.DataObject
) -> None:
    whole = list(plan_epoch(samples, recipe, seed=seed, epoch=1))
    resumed = plan_epoch(samples, recipe, seed=seed, epoch=1)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=5)):
        assert resumed[place] == whole[place]
    with pytest.raises(IndexError):
        resumed[len(whole)]


@given(any_samples(), recipes, st.integers(1, 100), st.integers(1, 8))
def test_the_budgets_never_decide_what_a_step_learns_from(
    samples: Samples, recipe: Recipe, max_tokens: int, max_pictures: int
) -> None:
    other = replace(recipe, max_tokens=max_tokens, max_pictures=max_pictures)
    one, two = (plan_epoch(samples, made, seed=0, epoch=0) for made in (recipe, other))
    assert [sorted(members(step)) for step in one] == [sorted(members(step)) for step in two]


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 100))
def test_first_fit_decreasing_wastes_less_than_half(lengths: list[int], max_tokens: int) -> None:
    """Two rows of first-fit are never both at most half full, or they would have been one."""
    (step,) = plan_epoch(words(*lengths), Recipe(batch_size=40, max_tokens=max_tokens), seed=0, epoch=0)
    half_empty = [row for row in step if sum(lengths[index] for index in row) * 2 <= max_tokens]
    assert len(half_empty) <= 1


def test_the_longest_go_first_into_the_first_row_with_room() -> None:
    (step,) = plan_epoch(words(6, 5, 4, 3, 2), Recipe(batch_size=5, max_tokens=10), seed=0, epoch=0)
    assert step == [(0, 2), (1, 3, 4)]


def test_seed_and_epoch_decide_the_order() -> None:
    made = [
        plan_epoch(samples, Recipe(batch_size=1), seed=seed, epoch=epoch)
        for samples in (words(*[1] * 50), questions(25, 2))
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(in_order(plan)) for plan in made}) == len(made)


def test_a_picture_s_questions_meet_in_a_step_and_in_a_row() -> None:
    samples = questions(40, 6)
    plan = plan_epoch(samples, Recipe(batch_size=24, max_tokens=130), seed=3, epoch=0)
    for step in plan:
        assert Counter(len(set(samples.picture_keys[list(row)])) for row in step) == {2: 2}
        assert set(Counter(samples.picture_keys[members(step)].tolist()).values()) == {6}
    assert plan.fill() == Fill(rows=20, tokens=240 * 35, laid=40 * 60, room=20 * 130)
    assert plan.fill().saved == 3.5
    assert plan.fill(2).rows == 4


def test_pictures_that_do_not_fit_a_step_are_divided_as_little_as_they_must() -> None:
    plan = plan_epoch(questions(8, 6), Recipe(batch_size=16, window=3, max_tokens=1000), seed=0, epoch=0)
    pieces = [len({index // 6 for index in members(step)}) for step in plan]
    assert sum(pieces) == 10  # two whole ones a step, and 4 + 4 + 4 places for the 6 + 6 questions of the last two


def test_a_picture_with_more_questions_than_a_row_holds_is_repeated_in_the_next() -> None:
    samples = questions(1, 20)
    (step,) = plan_epoch(samples, Recipe(batch_size=20, max_tokens=60), seed=0, epoch=0)
    assert sorted(map(len, step)) == [2, 6, 6, 6]
    assert all(row_tokens(samples, row, share=True) <= 60 for row in step)


def test_a_row_holds_no_more_pictures_than_it_may() -> None:
    samples = Samples.of(*((5, key, 2, 4) for key in range(6)), (5, -1, 0, 0), (5, 6, 5, 4))
    (step,) = plan_epoch(samples, Recipe(batch_size=8, max_tokens=1000, max_pictures=4), seed=0, epoch=0)
    assert sorted(int(samples.picture_counts[list(row)].sum()) for row in step) == [4, 4, 4, 5]


def test_without_sharing_the_order_is_a_plain_shuffle() -> None:
    """Questions about a picture meet as chance has it."""
    samples = questions(200, 2)
    plan = plan_epoch(samples, Recipe(batch_size=10, share_pictures=False), seed=0, epoch=0)
    met = sum(10 - len(set(samples.picture_keys[members(step)].tolist())) for step in plan)
    assert met < 20  # 4.5 are expected; all 200 where pictures are shuffled
    assert plan.fill().laid == plan.fill().tokens


def test_steps_do_not_sort_pictures_by_how_many_questions_they_have() -> None:
    """A step of many-questioned pictures alone would be another thing to learn from than the data."""
    many = ((40, key, 1, 30) for key in range(1000) for _ in range(8))
    single = ((40, 1000 + key, 1, 30) for key in range(8000))
    samples = Samples.of(*many, *single)
    plan = plan_epoch(samples, Recipe(batch_size=64, window=5), seed=0, epoch=0)
    shares = [float((samples.picture_keys[members(step)] < 1000).mean()) for step in plan]
    by_place = numpy.asarray(shares).reshape(-1, 5).mean(axis=0)  # 50 windows
    assert by_place.tolist() == pytest.approx([0.5] * 5, abs=0.08)


def test_the_last_step_of_half_a_million_samples_is_planned_alone() -> None:
    draw = numpy.random.default_rng(0)
    keys = numpy.repeat(numpy.arange(250_000), 2)
    lengths = 270 + draw.integers(10, 300, len(keys))
    samples = Samples(lengths, keys, numpy.ones_like(keys), numpy.full_like(keys, 270))
    plan = plan_epoch(samples, Recipe(), seed=0, epoch=0)
    assert sum(map(len, plan[len(plan) - 1])) == 500_000 % 128
