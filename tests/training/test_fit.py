"""`--max-tokens auto`: the search against a plain scan, the choice by arithmetic, the record a resumed run reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.errors import TrainingError
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.precision import GB
from llavamed_cli.progress import Silent
from llavamed_cli.run_record import begin_run
from llavamed_cli.training import fit
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.fit import estimate_max_tokens, fit_max_tokens, heavy_rows, largest, settle_max_tokens
from llavamed_cli.training.packing import plan_epoch
from llavamed_cli.training.parts import prepare_parts
from llavamed_cli.training.planning.machine import Machine
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.stage import Prepared

RECIPE = Recipe(batch_size=9)


@given(count=st.integers(1, 200), good=st.integers(0, 200))
def test_the_search_finds_what_a_scan_finds_and_asks_little(count: int, good: int) -> None:
    budgets = list(range(256, 256 * (count + 1), 256))
    asked: list[int] = []

    def fits(budget: int) -> bool:
        asked.append(budget)
        return budget <= 256 * good

    expected = max((budget for budget in budgets if budget <= 256 * good), default=None)
    assert largest(budgets, fits) == expected
    assert len(asked) == len(set(asked)) <= 2 * numpy.log2(count + 1) + 2
    too_long = [budget for budget in asked if budget > 256 * good]
    assert all(budget <= 2 * 256 * good + 256 for budget in too_long[:1]), "far beyond what is known to fit"


def test_heavy_rows_are_the_worst_of_their_kind(examples: ExampleSet) -> None:
    recipe = replace(RECIPE, max_tokens=300, share_pictures=False, batch_size=4)
    rows = [row for step in plan_epoch(examples, recipe, seed=1, epoch=0) for row in step]
    heavy = heavy_rows(examples, recipe, seed=1)
    assert set(heavy) <= set(rows)
    for values in (examples.lengths, examples.supervised, examples.picture_counts):
        assert max(int(values[list(row)].sum()) for row in heavy) == max(int(values[list(row)].sum()) for row in rows)


def machine(free: float, device: str = "cpu") -> Machine:
    return Machine(device=device, free=int(free), source="to test with")


def estimated(examples: ExampleSet, loaded: LoadedModel, free: float) -> int:
    model: Any = loaded.model
    choice = estimate_max_tokens(model.config, examples, RECIPE, machine(free), precision="fp32", seed=0)
    assert str(int(choice.value)) == choice.value
    return int(choice.value)


def test_more_memory_makes_longer_rows_up_to_all_of_a_step(
    examples: ExampleSet, open_tiny: Callable[[], LoadedModel]
) -> None:
    loaded = open_tiny()
    found = [estimated(examples, loaded, free) for free in (4e7, 6e7, 9e7, 100 * GB, 200 * GB)]
    assert found == sorted(found)
    assert found[0] < found[-1] == found[-2]
    total = int(examples.lengths.sum())
    assert total <= found[-1] < total + 256
    assert found == [estimated(examples, loaded, free) for free in (4e7, 6e7, 9e7, 100 * GB, 200 * GB)]


def test_devices_share_a_step(examples: ExampleSet, open_tiny: Callable[[], LoadedModel]) -> None:
    """Rows of a whole step would leave all but one device without any."""
    loaded: Any = open_tiny()
    spread = replace(machine(100 * GB), cards=2)
    choice = estimate_max_tokens(loaded.model.config, examples, RECIPE, spread, precision="fp32", seed=0)
    assert int(choice.value) == pytest.approx(int(examples.lengths.sum()) / 2, abs=256)


def test_rows_too_long_for_any_memory_are_said_with_the_arithmetic(
    examples: ExampleSet, open_tiny: Callable[[], LoadedModel]
) -> None:
    with pytest.raises(TrainingError, match="not even rows of") as refused:
        estimated(examples, open_tiny(), 1e6)
    assert "activations of layers" in str(refused.value) and "--plan" in str(refused.value)


def test_off_cuda_the_estimate_decides(examples: ExampleSet, open_tiny: Callable[[], LoadedModel]) -> None:
    loaded = open_tiny()
    prepare_parts(loaded.model, RECIPE, seed=0)
    chosen = fit_max_tokens(loaded, examples, RECIPE, machine(6e7), seed=0, progress=Silent())
    assert int(chosen.value) == estimated(examples, loaded, 6e7)
    assert "by the plan" in chosen.reason


def test_a_resumed_run_takes_what_was_recorded(
    examples: ExampleSet, open_tiny: Callable[[], LoadedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where there is another memory by then."""
    loaded = open_tiny()
    prepared = Prepared(loaded, examples)
    run = begin_run(tmp_path / "out", "align", options={"max_tokens": "auto"}, inputs={}, seed=0)
    first = settle_max_tokens(prepared, RECIPE, run, seed=0, progress=Silent())
    (tmp_path / "out" / "metrics.jsonl").write_text("{}\n")
    monkeypatch.setattr(fit, "this_machine", lambda loaded: machine(6e7))
    again = begin_run(tmp_path / "out", "align", options={"max_tokens": "auto"}, inputs={}, seed=0)
    assert again.resumed
    assert settle_max_tokens(prepared, RECIPE, again, seed=0, progress=Silent()) == first
    assert int(first.value) != estimated(examples, loaded, 6e7)
