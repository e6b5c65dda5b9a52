"""Memory planned from a config against a real model that trains: weights, gradients and moments to the byte, and the
peak that PyTorch's own allocator reports for a step."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from bitsandbytes.optim import GlobalOptimManager
from torch.profiler import ProfilerActivity, profile
from transformers import LlavaConfig, LlavaForConditionalGeneration

from llavamed_cli.model.segment_attention import use_segments
from llavamed_cli.training.examples import Example
from llavamed_cli.training.layout import PackedRow, collate
from llavamed_cli.training.optimizer import make_optimizer
from llavamed_cli.training.parts import prepare_parts
from llavamed_cli.training.planning.memory import MemoryPart, RowSize, TrainingMemory, size_text, training_memory
from llavamed_cli.training.planning.model_sizes import model_sizes
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.step import row_loss

PROJECTOR, BOTH = ("projector",), ("projector", "lm")
RECIPES = {
    "projector": Recipe(train=PROJECTOR),
    "whole": Recipe(train=BOTH),
    "whole, 8-bit": Recipe(train=BOTH, optimizer="adamw8bit"),
    "low rank": Recipe(train=BOTH, lora_rank=8),
    "low rank, dropout": Recipe(train=BOTH, lora_rank=8, lora_dropout=0.05),
    "tower too": Recipe(train=("projector", "vision_tower")),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ROW = RowSize(tokens=512, learned=256, pictures=2, keys=512)


def example(length: int, number: int) -> Example:
    ids = numpy.arange(length, dtype=numpy.int32) % 300 + 1
    ids[3:19] = 1023
    supervised = numpy.arange(length) >= length // 2
    return Example(id=str(number), input_ids=ids, supervised=supervised, pictures=(Path(f"{number}.png"),))


def open_model(config: LlavaConfig, recipe: Recipe, precision: str) -> Any:
    torch.manual_seed(0)
    model: Any = LlavaForConditionalGeneration(config).to(DTYPES[precision])
    prepare_parts(model, recipe, seed=0)
    use_segments(model)
    return model.train()


def learn(model: Any, row: PackedRow, precision: str) -> None:
    features = torch.zeros(2, 16, 48, dtype=DTYPES[precision])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = row_loss(model, row, features)
    loss.backward()


def in_bytes(tensors: Any) -> int:
    return sum(one.numel() * one.element_size() for one in tensors if isinstance(one, torch.Tensor))


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", RECIPES)
def test_what_lasts_is_planned_to_the_byte(name: str, precision: str, config: LlavaConfig) -> None:
    recipe = RECIPES[name]
    model = open_model(config, recipe, precision)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    GlobalOptimManager.get_instance().initialize()  # it remembers other models' parameters by their places
    optimizer = make_optimizer(model, recipe)
    optimizer.step()
    tables = {"qmap1", "qmap2"}  # of 8-bit numbers: one for all tensors
    kept = [value for state in optimizer.state.values() for key, value in state.items() if key not in tables]
    expected = in_bytes(model.parameters()) + in_bytes(one.grad for one in model.parameters()) + in_bytes(kept)
    sizes = model_sizes(config, recipe, precision=precision)
    assert training_memory(sizes, recipe, ROW, precision=precision, device="cpu").lasting == expected
    assert sizes.numbers == sum(one.numel() for one in model.parameters())
    assert sizes.trained_numbers == sum(one.numel() for one in model.parameters() if one.requires_grad)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize(
    ("name", "precision"),
    list(itertools.product(["projector", "whole", "low rank", "low rank, dropout"], DTYPES)),
)
def test_the_peak_of_a_step_is_planned_within_a_third(
    name: str, precision: str, checkpointing: bool, config: LlavaConfig
) -> None:
    """Gradients are there from a row before; measured is what comes on top of all that lasts."""
    recipe = Recipe(**{**vars(RECIPES[name]), "gradient_checkpointing": checkpointing})
    model = open_model(config, recipe, precision)
    row = collate([example(300, 0), example(212, 1)])
    learn(model, row, precision)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        learn(model, row, precision)
    results: Any = measured.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    peak = max(itertools.accumulate(event.nbytes() for event in events))
    sizes = model_sizes(config, recipe, precision=precision)
    planned = training_memory(sizes, recipe, ROW, precision=precision, device="cpu")
    assert peak > 4_000_000, "too little to measure"
    assert 0.95 * peak <= planned.total - planned.lasting <= 1.35 * peak


def test_quantised_layers_are_those_that_quantising_changes(config: LlavaConfig) -> None:
    """NF4 with double quantisation: half a byte a number, a scale of 1 byte for 64, one of 4 for 256 of those."""
    plain, quantised = (
        model_sizes(config, Recipe(train=BOTH, lora_rank=8, quantise=how), precision="bf16") for how in ("none", "4bit")
    )
    linear = 6 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 344)
    norms = 13 * 128
    assert plain.frozen_bytes()["language model"] == 2 * (linear + norms)
    held = quantised.frozen_bytes()["language model"] - 2 * norms
    assert 0.5 * linear + linear / 64 < held < 0.56 * linear + 42 * 4 * 273
    for part in ("vocabulary", "vision tower"):
        assert plain.frozen_bytes()[part] == quantised.frozen_bytes()[part]


def test_fsdp_divides_what_lasts_and_ddp_does_not(config: LlavaConfig) -> None:
    recipe = Recipe(train=BOTH)
    sizes = model_sizes(config, recipe, precision="bf16")

    def planned(**where: Any) -> TrainingMemory:
        return training_memory(sizes, recipe, ROW, precision="bf16", device="cuda", **where)

    alone, spread, sharded = planned(), planned(cards=4), planned(cards=4, sharded=True)
    assert spread.lasting == alone.lasting
    assert sharded.lasting == pytest.approx(alone.lasting / 4, abs=8)
    assert spread.total == alone.total + 4 * sizes.trained_numbers
    assert any("FSDP" in part.name for part in sharded.parts)


def test_rows_cost_in_proportion_and_checkpointing_a_part_of_it(config: LlavaConfig) -> None:
    recipe = Recipe(train=BOTH)
    sizes = model_sizes(config, recipe, precision="fp32")

    def of_layers(tokens: int, **changed: Any) -> int:
        row = RowSize(tokens=tokens, learned=10, pictures=1, keys=tokens)
        planned = training_memory(sizes, Recipe(train=BOTH, **changed), row, precision="fp32", device="cpu")
        return next(part.bytes for part in planned.parts if part.name == "activations of layers")

    assert of_layers(2000) == 2 * of_layers(1000)
    assert of_layers(1000, gradient_checkpointing=True) == 1000 * 6 * 128 * 4


def test_lines_hold_the_arithmetic() -> None:
    parts = (MemoryPart("weights", 2 * 10**9, "1,000,000,000 x 2 bytes"), MemoryPart("nothing", 0, "0"))
    first, last = TrainingMemory(parts, cards=2, sharded=False).lines()
    assert first.split() == ["weights", "2.00", "GB", "1,000,000,000", "x", "2", "bytes"]
    assert last.split()[-2:] == ["2.00", "GB"] and "each of 2 devices" in last
    assert size_text(12_345_678) == "12.3 MB"
