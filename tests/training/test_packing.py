"""Rows without padding: every sample once, within the budget, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.training.packing import collate, pack, plan_epoch, supervised_tokens
from llavamed_cli.training.samples import Example

lengths_of = st.lists(st.integers(1, 90), min_size=1, max_size=40)


@given(lengths_of, st.integers(1, 12), st.integers(1, 100), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_holds_every_sample_once_in_steps_and_rows_of_the_size_asked_for(
    lengths: list[int], batch_size: int, max_tokens: int, seed: int, epoch: int
) -> None:
    plan = plan_epoch(lengths, batch_size=batch_size, max_tokens=max_tokens, seed=seed, epoch=epoch)
    steps = [[index for row in rows for index in row] for rows in plan]
    assert sorted(index for step in steps for index in step) == list(range(len(lengths)))
    assert all(len(step) == batch_size for step in steps[:-1])
    for rows in plan:
        for row in rows:
            assert len(row) == 1 or sum(lengths[index] for index in row) <= max_tokens
    assert plan == plan_epoch(lengths, batch_size=batch_size, max_tokens=max_tokens, seed=seed, epoch=epoch)


@given(lengths_of, st.integers(1, 100), st.integers(1, 100))
def test_the_budget_never_decides_what_a_step_learns_from(lengths: list[int], small: int, large: int) -> None:
    one, other = (plan_epoch(lengths, batch_size=4, max_tokens=budget, seed=0, epoch=0) for budget in (small, large))
    assert [sorted(sum(rows, ())) for rows in one] == [sorted(sum(rows, ())) for rows in other]


@given(lengths_of, st.integers(1, 100))
def test_first_fit_decreasing_wastes_less_than_half(lengths: list[int], max_tokens: int) -> None:
    """Two rows of first-fit are never both at most half full, or they would have been one."""
    rows = pack(range(len(lengths)), lengths, max_tokens)
    half_empty = [row for row in rows if sum(lengths[index] for index in row) * 2 <= max_tokens]
    assert len(half_empty) <= 1


def test_seed_and_epoch_decide_the_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        plan = plan_epoch([1] * 50, batch_size=1, max_tokens=1, seed=seed, epoch=epoch)
        return [row[0] for rows in plan for row in rows]

    orders = [order(0, 0), order(0, 1), order(1, 0), order(1, 1)]
    assert len({tuple(one) for one in orders}) == 4


def example(ids: list[int], supervised: list[int], *pictures: str) -> Example:
    return Example(
        id="x",
        input_ids=numpy.asarray(ids, dtype=numpy.int32),
        supervised=numpy.asarray(supervised, dtype=bool),
        pictures=tuple(Path(name) for name in pictures),
    )


def test_a_row_by_hand() -> None:
    first, second = example([5, 6, 7, 8], [0, 0, 1, 1], "a.png"), example([9, 3, 4], [1, 1, 0], "b.png", "c.png")
    row = collate([first, second])
    assert row.input_ids.tolist() == [[5, 6, 7, 8, 9, 3, 4]]
    assert row.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert row.predictors.tolist() == [1, 2, 4]  # token 9 begins its example: nothing stands before it
    assert row.targets.tolist() == [7, 8, 3]
    assert [path.name for path in row.pictures] == ["a.png", "b.png", "c.png"]
    assert [supervised_tokens(one) for one in (first, second)] == [2, 1]
