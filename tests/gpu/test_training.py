"""A step of training on the device: attention by segments, the head's loss in pieces, features kept on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from llavamed_cli.model.attention import choose_attention
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.segment_attention import FLEX, LOOP, VARLEN, choose_segments, use_segments
from llavamed_cli.training import head_loss
from llavamed_cli.training.examples import Example
from llavamed_cli.training.feature_cache import MemoryCache
from llavamed_cli.training.features import FrozenFeatures
from llavamed_cli.training.layout import collate
from llavamed_cli.training.parts import prepare_parts, trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.step import row_loss

BEFORE = 5
EXACT, ROUNDED = 1e-4, 0.05
"""How far gradients may lie apart, of their largest number: in fp32, and in bf16 through several layers."""


@pytest.fixture
def pictures(data_folder: Path) -> list[Path]:
    return sorted((data_folder / "images").iterdir())[:2]


def samples(loaded: LoadedModel, pictures: list[Path]) -> tuple[list[Example], list[int]]:
    """Three questions about one picture and one about another; what each could share."""
    model: Any = loaded.model
    draw = numpy.random.default_rng(0)
    prefix = BEFORE + loaded.image_length
    found = []
    for number, picture in enumerate((pictures[0], pictures[0], pictures[1], pictures[0])):
        answer = 3 + 5 * number
        ids = draw.integers(5, 200, prefix + 7 + answer, dtype=numpy.int32)
        ids[:BEFORE] = range(BEFORE)
        ids[BEFORE:prefix] = model.config.image_token_id
        learned = numpy.arange(len(ids)) >= len(ids) - answer
        found.append(Example(id=str(number), input_ids=ids, supervised=learned, pictures=(picture,)))
    return found, [prefix] * len(found)


def learn(
    loaded: LoadedModel, rows: list[list[Example]], prefixes: list[int] | None
) -> tuple[float, dict[str, torch.Tensor]]:
    """Summed loss and gradients, under autocast where the model is in bf16."""
    model: Any = loaded.model.train()
    features = FrozenFeatures(loaded)
    half = loaded.choices["precision"].value == "bf16"
    total = 0.0
    for row in rows:
        packed = collate(row, prefixes=prefixes).to(loaded.device)
        with torch.autocast(loaded.device, dtype=torch.bfloat16, enabled=half):
            loss = row_loss(model, packed, features.of(packed.pictures))
        loss.backward()
        total += float(loss.detach())
    gradients = {
        name: one.grad.float().cpu() for name, one in trained_parameters(model).items() if one.grad is not None
    }
    model.zero_grad(set_to_none=True)
    return total, gradients


def kernels(device: str, precision: str) -> list[str]:
    """Those that can learn there."""
    if device == "cpu":
        return [LOOP]
    flash = precision == "bf16" and choose_attention(device, precision).value == "flash_attention_2"
    return [LOOP, FLEX, VARLEN] if flash else [LOOP, FLEX]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_kernel_learns_what_samples_alone_do(
    precision: str,
    checkpointing: bool,
    device: str,
    tiny_model: Path,
    pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = load_model(str(tiny_model), device=device, precision=precision, for_training=True)
    prepare_parts(loaded.model, Recipe(train=("projector", "lm"), gradient_checkpointing=checkpointing), seed=0)
    examples, prefixes = samples(loaded, pictures)
    alone, expected = learn(loaded, [[example] for example in examples], None)
    monkeypatch.setattr(head_loss, "LOGITS_AT_ONCE", 7 * loaded.model.lm_head.out_features)
    tolerance = EXACT if precision == "fp32" else ROUNDED
    for kernel in kernels(device, precision):
        use_segments(loaded.model, kernel)
        together, found = learn(loaded, [examples], prefixes)
        assert together == pytest.approx(alone, rel=tolerance), kernel
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            apart = (found[name] - gradient).abs().max() / gradient.abs().max()
            assert apart <= tolerance, f"{kernel}: {name}"


def test_the_kernel_chosen_is_one_that_learns(device: str) -> None:
    for precision in ("fp32", "bf16"):
        assert choose_segments(device, precision).value in kernels(device, precision)


def test_kept_features_are_those_that_were_computed(device: str, tiny_model: Path, pictures: list[Path]) -> None:
    loaded = load_model(str(tiny_model), device=device, precision="bf16")
    features = FrozenFeatures(loaded, MemoryCache(2**30))
    computed = features.of(pictures)
    assert (computed.dtype, computed.device.type) == (torch.bfloat16, device)
    assert torch.equal(features.of(pictures), computed)


def test_the_heads_memory_does_not_grow_with_positions(device: str) -> None:
    """fp32 logits of all positions would take 1 GB here, and their gradient as much."""
    if device == "cpu":
        pytest.skip("measured on the CPU by tests/benchmarks/training_memory.py")
    head = torch.nn.Linear(64, 32_000, bias=False, device=device)
    states = torch.randn(8192, 64, device=device, requires_grad=True)
    targets = torch.randint(32_000, (8192,), device=device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    head_loss.head_loss(head, states, targets).backward()
    assert torch.cuda.max_memory_allocated() - before < 6 * 4 * head_loss.LOGITS_AT_ONCE
