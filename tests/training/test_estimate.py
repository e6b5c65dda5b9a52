"""`--plan`: its counts against ones made by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from llavamed_cli.model.load import LoadedModel
from llavamed_cli.training.estimate import Plan, plan_training
from llavamed_cli.training.examples import Example
from llavamed_cli.training.parts import prepare_parts
from llavamed_cli.training.recipe import Recipe

Open = Callable[[], LoadedModel]

PROJECTOR = (48 * 64 + 64) + (64 * 64 + 64)
TOWER = (
    48 + 3 * 8 * 8 * 48 + 17 * 48  # class token, patches, positions
    + 2 * (4 * (48 * 48 + 48) + (48 * 96 + 96) + (96 * 48 + 48) + 2 * 2 * 48)  # attention, MLP, two norms
    + 2 * 2 * 48  # a norm before the layers and one after
)  # fmt: skip
WORDS = 320 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 160 + 2 * 64) + 64
"""Table (tied to the head), attention, MLP and two norms a layer, the last norm: tests/training/conftest.py."""


def example(loaded: LoadedModel, words: int, learned: int, *pictures: Path) -> Example:
    """`words` ids after the pictures, the last `learned` of them supervised."""
    ids = [loaded.chat.image_token_id] * (loaded.image_length * len(pictures)) + list(range(1, words + 1))
    supervised = [place >= len(ids) - learned for place in range(len(ids))]
    return Example(
        id="x",
        input_ids=numpy.asarray(ids, dtype=numpy.int32),
        supervised=numpy.asarray(supervised, dtype=bool),
        pictures=pictures,
    )


@pytest.fixture
def planned(
    open_counted: Open, data_folder: Path, few: Callable[..., Any]
) -> Callable[[Recipe], tuple[Plan, LoadedModel]]:
    """Plans five examples of 26, 22, 36, 20 and 30 tokens; two of them are about the same picture."""

    def plan(recipe: Recipe) -> tuple[Plan, LoadedModel]:
        loaded = open_counted()
        prepare_parts(loaded.model, recipe, seed=0)
        assert loaded.image_length == 16
        a, b = data_folder / "images" / "0.png", data_folder / "images" / "1.png"
        examples = [
            example(loaded, 10, 3, a),
            example(loaded, 6, 2, a),
            example(loaded, 20, 5, b),
            example(loaded, 20, 7),
            example(loaded, 30, 30),  # the first of them has no predictor
        ]
        return plan_training(loaded, few(examples), recipe, seed=0), loaded

    return plan


def test_counts_by_hand(planned: Callable[[Recipe], tuple[Plan, LoadedModel]]) -> None:
    plan, loaded = planned(Recipe(train=("projector",), batch_size=5, max_tokens=60, epochs=3))
    model: Any = loaded.model
    assert (plan.samples, plan.pictures) == (5, 2)
    assert plan.trained == PROJECTOR
    assert plan.parameters == WORDS + TOWER + PROJECTOR
    assert plan.tokens_per_epoch == 26 + 22 + 36 + 20 + 30
    assert plan.supervised_per_epoch == 3 + 2 + 5 + 7 + 29
    assert plan.laid_per_epoch == 16 + 10 + 6 + 36 + 20 + 30  # two samples share one picture
    assert plan.rows_per_epoch == 3  # 36 + 20, 32, 30
    assert plan.fill == pytest.approx(118 / 180)
    assert plan.steps == 3
    assert plan.state_bytes == 4 * (WORDS + TOWER) + 16 * PROJECTOR
    assert plan.seconds > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_everything_trained_and_steps_that_win_over_epochs(
    planned: Callable[[Recipe], tuple[Plan, LoadedModel]],
) -> None:
    both = ("projector", "lm")
    plan, _ = planned(Recipe(train=both, batch_size=2, max_tokens=25, epochs=3, steps=11))
    assert plan.trained == WORDS + PROJECTOR
    assert plan.state_bytes == 4 * TOWER + 16 * (WORDS + PROJECTOR)
    assert plan.steps == 11
    assert plan.fill <= 1  # rows longer than the budget count by their own length


def test_lines_say_it_to_a_person() -> None:
    plan = Plan(
        samples=1234,
        pictures=1200,
        parameters=7_000_000_000,
        trained=20_000_000,
        tokens_per_epoch=900_000,
        laid_per_epoch=300_000,
        supervised_per_epoch=80_000,
        rows_per_epoch=456,
        fill=0.964,
        steps=789,
        state_bytes=3 * 2**29,
        seconds=5400.0,
    )
    lines = plan.lines()
    for line, said in zip(
        lines,
        (
            "1,234 with 1,200 pictures",
            "20,000,000 of 7,000,000,000 trained",
            "900,000 tokens, 80,000 of them supervised",
            "456 rows an epoch, filled to 96%",
            "300,000 tokens an epoch",
            "789",
            "1.50 GiB",
            "about 1.5 h",
        ),
        strict=True,
    ):
        assert said in line
    assert "about 2.0 min" in dataclasses.replace(plan, seconds=120.0).lines()[-1]
