"""`--plan` whole: its counts, where its hours come from, and what it says would fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from transformers import LlavaConfig

from llavamed_cli.errors import UsageError
from llavamed_cli.training.planning.epoch import CountedSamples
from llavamed_cli.training.planning.hardware import find_hardware
from llavamed_cli.training.planning.machine import Machine, machine_of
from llavamed_cli.training.planning.plan import GivenRate, MeasuredRate, Plan, plan_training
from llavamed_cli.training.recipe import Recipe

Planner = Callable[..., Plan]
ROOMY = Machine(device="cpu", free=10**12, source="to test with")
RECIPE = Recipe(train=("projector", "lm"), batch_size=2, epochs=3, max_tokens=200)


@pytest.fixture
def plan(samples: CountedSamples, config: LlavaConfig) -> Planner:
    """Plans five samples with one thing or another changed."""

    def made(recipe: Recipe = RECIPE, machine: Machine = ROOMY, **changed: Any) -> Plan:
        given: dict[str, Any] = {"config": config, "precision": "fp32", "speed": GivenRate(10.0), "seed": 0, **changed}
        return plan_training(given.pop("config"), samples, recipe, machine=machine, **given)

    return made


@pytest.fixture
def tight(plan: Planner) -> Planner:
    """Plans on a machine with a share of what the recipe takes."""

    def made(recipe: Recipe, free: float, **changed: Any) -> Plan:
        needed = plan(recipe, **changed).memory.total
        return plan(recipe, replace(ROOMY, free=int(needed * free / 0.9)), **changed)

    return made


def test_counts_and_hours_of_a_given_rate(plan: Planner) -> None:
    found = plan()
    assert (found.steps, found.epoch.steps) == (9, 3)
    assert found.seconds == pytest.approx(3 * found.epoch.laid / 10)
    assert found.fits and not found.remedies
    assert plan(replace(RECIPE, steps=4)).steps == 4


def test_hours_of_a_measured_rate_count_each_picture_once(plan: Planner) -> None:
    found = plan(speed=MeasuredRate(token=0.5, picture=7.0))
    assert found.seconds == pytest.approx(0.5 * 3 * found.epoch.laid + 2 * 7.0)


def test_hours_of_named_cards_are_operations_by_peak(plan: Planner) -> None:
    cards = find_hardware("h100-80gb:2")
    found = plan(machine=machine_of(cards), speed=cards, precision="bf16")
    assert found.seconds == pytest.approx(found.work.total / (2 * 989e12 * 0.4))
    assert "40% assumed utilisation" in found.seconds_how
    assert found.memory.cards == 2


def test_what_does_not_fit_is_told_with_what_would(tight: Planner) -> None:
    found = tight(RECIPE, 0.4)
    assert not found.fits
    assert found.remedies[-1].fits
    options = [remedy.options for remedy in found.remedies]
    assert options[0] == "--gradient-checkpointing"
    assert any("--optimizer adamw8bit" in one for one in options)
    for remedy in found.remedies:
        assert remedy.fits == (remedy.total <= found.machine.room)
    text = "\n".join(found.lines())
    assert "DOES NOT FIT" in text and "to fit       add:" in text


def test_a_remedy_is_true_to_its_word(plan: Planner, tight: Planner) -> None:
    """Planned with the options it names, the run takes what it said."""
    found = tight(RECIPE, 0.4)
    first = found.remedies[0]
    changed = replace(RECIPE, gradient_checkpointing=True)
    assert plan(changed).memory.total == first.total


def test_quantised_low_rank_is_left_where_nothing_milder_fits(
    tight: Planner, llava: Callable[..., LlavaConfig]
) -> None:
    wide = llava(hidden_size=1024, intermediate_size=2816, num_hidden_layers=8)
    found = tight(replace(RECIPE, lora_rank=4), 0.55, config=wide, precision="bf16")
    assert any("--quantise 4bit" in remedy.options and remedy.fits for remedy in found.remedies)


def test_cards_share_what_one_cannot_hold(plan: Planner, tight: Planner, llava: Callable[..., LlavaConfig]) -> None:
    wide = llava(hidden_size=1024, intermediate_size=2816, num_hidden_layers=8)
    found = tight(RECIPE, 0.3, config=wide)
    assert found.remedies[-1].options.endswith("such devices (FSDP)")
    count = int(found.remedies[-1].options.split(" on ")[-1].removeprefix("on ").split()[0])
    spread = replace(found.machine, cards=count)
    on_all = plan(replace(RECIPE, gradient_checkpointing=True), spread, config=wide)
    assert on_all.memory.sharded and on_all.fits and on_all.memory.total == found.remedies[-1].total


def test_lines_and_values_say_the_same(plan: Planner) -> None:
    found = plan()
    lines = found.lines()
    for said in (
        "5 with 2 pictures",
        f"{found.trained:,} of {found.parameters:,} trained",
        "9 of 2 samples, 3 an epoch",
    ):
        assert any(said in line for line in lines)
    values = json.loads(json.dumps(found.as_values()))
    assert (values["samples"], values["pictures"], values["steps"]) == (5, 2, 9)
    assert sum(part["bytes"] for part in values["memory"]["parts"]) == found.memory.total
    assert values["recipe"]["train"] == ["projector", "lm"]


def test_a_name_that_matches_nothing_is_refused_without_weights(plan: Planner) -> None:
    with pytest.raises(UsageError, match="cannot learn"):
        plan(Recipe(train=("model.no_such.*",)))


@pytest.mark.parametrize("name", ["a100", "a100-80gb:0", "a100-80gb:x", "", "tpu:4"])
def test_hardware_that_is_unknown_is_refused_with_what_is_known(name: str) -> None:
    with pytest.raises(UsageError, match="a100-80gb"):
        find_hardware(name)


def test_the_published_run_fits_eight_cards_by_sharding(plan: Planner, llava: Callable[..., LlavaConfig]) -> None:
    """LLaMA 7B, all of it trained: 16 bytes a number, on 8 A100 (LLaVA-Med's README); about two hours by arithmetic."""
    words = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    config: LlavaConfig = llava(vocab_size=32064, num_key_value_heads=32, **words)
    cards = find_hardware("a100-80gb:8")
    recipe = replace(RECIPE, gradient_checkpointing=True)
    found = plan(recipe, machine_of(cards), config=config, precision="bf16", speed=cards)
    assert found.fits and found.memory.sharded
    assert found.memory.lasting == pytest.approx(16 * 6.76e9 / 8, rel=0.01)
    alone = plan(recipe, machine_of(find_hardware("a100-80gb")), config=config, precision="bf16")
    assert not alone.fits
