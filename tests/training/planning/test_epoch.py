"""An epoch counted for a plan against what the loop would really lay into rows."""

from __future__ import annotations

import pytest

from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.layout import lay_row
from llavamed_cli.training.packing import plan_epoch
from llavamed_cli.training.planning.epoch import CountedSamples, count_epoch
from llavamed_cli.training.recipe import Recipe


def test_counts_by_hand(samples: CountedSamples) -> None:
    """30 + (26 - 18) + (40 - 18) tokens around the first picture, 36 and 20."""
    epoch = count_epoch(samples, Recipe(batch_size=5, max_tokens=200), seed=0)
    assert (epoch.samples, epoch.pictures, epoch.steps, epoch.rows) == (5, 2, 1, 1)
    assert (epoch.tokens, epoch.supervised) == (152, 30)
    assert epoch.laid == epoch.largest.tokens == 152 - 2 * 18
    assert epoch.looks == 2
    assert epoch.fill == pytest.approx(116 / 200)


def test_apart_every_sample_brings_its_picture(samples: CountedSamples) -> None:
    epoch = count_epoch(samples, Recipe(batch_size=5, max_tokens=200, share_pictures=False), seed=0)
    assert (epoch.laid, epoch.looks, epoch.largest.keys) == (152, 4, 152)
    assert epoch.pairs == sum(length * (length + 1) // 2 for length in (30, 26, 40, 36, 20))


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("max_tokens", [200, 600])
def test_rows_are_those_that_are_laid(examples: ExampleSet, max_tokens: int, share: bool) -> None:
    recipe = Recipe(batch_size=4, max_tokens=max_tokens, share_pictures=share)
    plan = plan_epoch(examples, recipe, seed=3, epoch=0)
    rows = [lay_row(examples, row, share=share) for step in plan for row in step]
    epoch = count_epoch(examples, recipe, seed=3)
    assert epoch.rows == len(rows)
    assert epoch.looks == sum(len(row.pictures) for row in rows)
    assert epoch.largest.learned == max(len(row.targets) for row in rows)
    laid = [row.input_ids.shape[1] for row in rows]
    # rows share all that their samples begin with alike, which may be more than a prefix
    assert sum(laid) <= epoch.laid <= 1.02 * sum(laid)
    seen = sum(int(row.position_ids.sum()) + row.input_ids.shape[1] for row in rows)
    assert seen <= epoch.pairs <= 1.02 * seen
