"""Operations planned against those that PyTorch counts while a real model learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlavaConfig, LlavaForConditionalGeneration

from llavamed_cli.training.examples import Example
from llavamed_cli.training.features import tower_features
from llavamed_cli.training.layout import collate
from llavamed_cli.training.parts import prepare_parts
from llavamed_cli.training.planning.arithmetic import count_work
from llavamed_cli.training.planning.epoch import CountedSamples, count_epoch
from llavamed_cli.training.planning.hardware import find_hardware
from llavamed_cli.training.planning.model_sizes import model_sizes
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.step import row_loss

LENGTH, LEARNED, PICTURE = 64, 20, 16
RECIPES = {
    "projector": Recipe(train=("projector",), batch_size=1),
    "whole": Recipe(train=("projector", "lm"), batch_size=1),
    "checkpointed": Recipe(train=("projector", "lm"), batch_size=1, gradient_checkpointing=True),
    "low rank": Recipe(train=("projector", "lm"), lora_rank=8, batch_size=1),
    "tower too": Recipe(train=("projector", "vision_tower"), batch_size=1),
}


@pytest.mark.parametrize("name", RECIPES)
def test_operations_are_those_that_are_done(name: str, config: LlavaConfig, lengths: Any) -> None:
    """The plainest attention computes all pairs of tokens, twice those that see each other: that half is put back."""
    recipe = RECIPES[name]
    ids = numpy.full(LENGTH, 5, dtype=numpy.int32)
    ids[2 : 2 + PICTURE] = 1023
    one = Example(id="x", input_ids=ids, supervised=numpy.arange(LENGTH) >= LENGTH - LEARNED, pictures=(Path("a"),))
    model: Any = LlavaForConditionalGeneration(config)
    prepare_parts(model, recipe, seed=0)
    model.train().set_attn_implementation("eager")
    row = collate([one])
    with FlopCounterMode(display=False) as counter:
        with torch.set_grad_enabled(name == "tower too"):
            features = tower_features(model, torch.zeros(1, 3, 32, 32))
        row_loss(model, row, features).backward()
    samples = lengths((LENGTH,), of=(0,), learned=(LEARNED,))
    sizes = model_sizes(config, recipe, precision="fp32")
    work = count_work(sizes, recipe, count_epoch(samples, recipe, seed=0), steps=1)
    attention = next(part.operations for part in work.parts if part.name == "attention")
    assert work.total + attention == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_work_grows_with_epochs_but_the_frozen_tower_sees_a_picture_once(
    config: LlavaConfig, samples: CountedSamples
) -> None:
    recipe = Recipe(batch_size=5)
    epoch, sizes = count_epoch(samples, recipe, seed=0), model_sizes(config, recipe, precision="bf16")
    once, thrice = ({part.name: part.operations for part in count_work(sizes, recipe, epoch, n).parts} for n in (1, 3))
    assert thrice.pop("vision tower") == once.pop("vision tower")
    assert thrice == {name: pytest.approx(3 * value) for name, value in once.items()}
    again = count_work(sizes, Recipe(batch_size=5, cache_features="off"), epoch, 3)
    assert again.parts[-1].operations == 3 * count_work(sizes, recipe, epoch, 1).parts[-1].operations


def test_hardware_by_name() -> None:
    found = find_hardware("A100-80GB:8")
    assert (found.count, found.card.memory) == (8, 80 * 10**9)
    assert found.rate == pytest.approx(8 * 312e12 * 0.4)
    assert find_hardware("l4-24gb").count == 1
