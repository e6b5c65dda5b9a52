"""Every precision on every device: it answers, agrees, takes what was planned, and survives being saved."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llavamed_cli.model.free_memory import FreeMemory, free_memory
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.precision import HEADROOM, candidates, compute_dtype
from llavamed_cli.model.quantise import has_bitsandbytes
from llavamed_cli.model.save import save_model

Logits = Callable[[LoadedModel, Prompt], torch.Tensor]

AGREEMENT = {"fp32": 0.9999, "bf16": 0.99, "fp16": 0.999, "8bit": 0.99, "4bit": 0.85}
"""The least cosine with fp32 on the CPU; the untrained, narrow `tiny` feels rounding more than a real model does."""


@pytest.fixture(params=AGREEMENT)
def loaded(request: pytest.FixtureRequest, device: str, tiny_model: Path) -> LoadedModel:
    """`tiny` in one precision on one device."""
    if request.param.endswith("bit") and not has_bitsandbytes():
        pytest.skip("bitsandbytes is not installed")
    if request.param == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bf16")
    return load_model(str(tiny_model), device=device, precision=request.param)


def answers(loaded: LoadedModel, prompts: list[Prompt]) -> list[tuple[int, ...]]:
    return [answer.token_ids for answer in answer_batch(loaded, prompts, max_new_tokens=6)]


def test_it_agrees_with_fp32_on_the_cpu(
    loaded: LoadedModel, prompts: list[Prompt], exact: list[torch.Tensor], logits_of: Logits
) -> None:
    for prompt, expected in zip(prompts, exact, strict=True):
        found = logits_of(loaded, prompt)
        assert torch.isfinite(found).all()
        cosine = torch.nn.functional.cosine_similarity(found, expected, dim=0)
        assert cosine > AGREEMENT[loaded.choices["precision"].value]


def test_everything_is_on_the_device_in_its_format(loaded: LoadedModel, device: str) -> None:
    model: Any = loaded.model
    assert {parameter.device.type for parameter in model.parameters()} == {device}
    precision = loaded.choices["precision"].value
    assert {p.dtype for p in model.model.vision_tower.parameters()} == {compute_dtype(precision, device)}


def test_the_weights_take_what_was_planned(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    held_bytes = importlib.import_module("four_bit").held_bytes
    assert loaded.plan is not None
    assert loaded.plan.weight_bytes == held_bytes(loaded.model)


def test_it_is_the_same_after_it_answered_was_saved_and_opened(
    loaded: LoadedModel, device: str, prompts: list[Prompt], tmp_path: Path
) -> None:
    said = answers(loaded, prompts)
    before = {name: tensor.cpu().clone() for name, tensor in loaded.model.state_dict().items()}
    save_model(loaded.model, loaded.processor, tmp_path)
    again = load_model(str(tmp_path), device=device, precision=loaded.choices["precision"].value)
    held = {name: tensor.cpu() for name, tensor in again.model.state_dict().items()}
    assert held.keys() == before.keys()
    assert all(torch.equal(held[name], before[name]) for name in held)
    assert answers(again, prompts) == said


def test_auto_follows_the_memory_that_is_free(device: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory(device).bytes > 0
    order = candidates(device, quantised=has_bitsandbytes())
    assert load_model(str(tiny_model), device=device).choices["precision"].value == order[0]
    plans = [load_model(str(tiny_model), device=device, precision=name).plan for name in order]
    sizes = {plan.precision: plan.total for plan in plans if plan is not None}
    room = FreeMemory(int(min(sizes.values()) / (1 - HEADROOM)) + 2, "here")
    monkeypatch.setattr("llavamed_cli.model.load.free_memory", lambda device: room)
    assert load_model(str(tiny_model), device=device).choices["precision"].value == min(sizes, key=lambda n: sizes[n])
