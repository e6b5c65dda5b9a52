"""Which precision: the widest that fits the memory free now, with the arithmetic; and what cannot be had is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from llavamed_cli.errors import ModelError, UsageError
from llavamed_cli.model.free_memory import FreeMemory
from llavamed_cli.model.memory_plan import MemoryPlan
from llavamed_cli.model.precision import (
    HEADROOM,
    PRECISIONS,
    QUANTISED,
    candidates,
    check_precision,
    choose_device,
    choose_precision,
    compute_dtype,
    fit_precision,
)

NEEDS = {"fp32": 4000, "bf16": 2000, "8bit": 1000, "4bit": 600}


def plan(precision: str) -> MemoryPlan:
    """A model of round sizes, in megabytes."""
    size = NEEDS[precision] * 10**6
    return MemoryPlan(precision, {"language model": size - 30 * 10**6}, 100, 20 * 10**6, 10 * 10**6)


def fitted(free: float) -> str:
    return fit_precision(tuple(NEEDS), plan, FreeMemory(int(free), "here"), "model").value


@pytest.mark.parametrize(("precision", "wider"), [("fp32", None), ("bf16", "fp32"), ("8bit", "bf16"), ("4bit", "8bit")])
def test_the_widest_that_fits_to_the_byte(precision: str, wider: str | None) -> None:
    just_enough = NEEDS[precision] * 10**6 / (1 - HEADROOM)
    assert fitted(just_enough + 2) == precision
    if wider:
        assert fitted(NEEDS[wider] * 10**6 / (1 - HEADROOM) - 2) == precision


def test_the_reason_holds_the_arithmetic() -> None:
    choice = fit_precision(("fp32", "bf16"), plan, FreeMemory(3 * 10**9, "on this machine"), "model")
    assert choice.value == "bf16"
    assert choice.reason == (
        "2.00 GB = weights 1.97 + cache of 100 tokens 0.02 + activations 0.01; 3.00 GB are free on this machine; "
        "fp32 would take 4.00 GB"
    )


def test_nothing_fits() -> None:
    with pytest.raises(ModelError) as error:
        fit_precision(("bf16", "4bit"), plan, FreeMemory(5 * 10**8, "on the GPU"), "a/model")
    assert error.value.where == "a/model"
    assert "0.50 GB are free on the GPU" in error.value.what
    assert "bf16: 2.00 GB = " in error.value.what
    assert "4bit: 0.60 GB = " in error.value.what
    assert error.value.hint


@pytest.mark.parametrize(
    ("device", "quantised", "expected"),
    [
        ("cuda", True, ("bf16", "8bit", "4bit")),
        ("cuda", False, ("bf16",)),
        ("cpu", True, ("fp32", "bf16", "4bit")),
        ("cpu", False, ("fp32", "bf16")),
        ("mps", True, ("fp32", "bf16")),
    ],
)
def test_what_auto_tries(
    device: str, quantised: bool, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llavamed_cli.model.precision.has_bf16", lambda: True)
    assert candidates(device, quantised=quantised) == expected


def test_a_gpu_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: False)
    assert candidates("cuda", quantised=True)[0] == "fp16"
    assert compute_dtype("4bit", "cuda") == torch.float16
    assert choose_precision("auto", "cuda").value == "fp32"


def test_what_is_computed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llavamed_cli.model.precision.has_bf16", lambda: True)
    assert {precision: compute_dtype(precision, "cuda") for precision in ("4bit", "8bit", "bf16", "fp32")} == {
        "4bit": torch.bfloat16,
        "8bit": torch.bfloat16,
        "bf16": torch.bfloat16,
        "fp32": torch.float32,
    }
    assert compute_dtype("4bit", "cpu") == torch.float32


def test_training_takes_what_can_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llavamed_cli.model.precision.has_bf16", lambda: True)
    assert choose_precision("auto", "cpu").value == "fp32"
    assert choose_precision("auto", "cuda").value == "bf16"
    assert choose_precision("bf16", "cpu").value == "bf16"
    for precision in QUANTISED:
        with pytest.raises(UsageError, match=f"{precision} weights can answer, not learn"):
            choose_precision(precision, "cuda")


def test_names() -> None:
    for precision in PRECISIONS:
        check_precision(precision)
    for call in (check_precision, lambda name: choose_precision(name, "cpu")):
        with pytest.raises(UsageError, match="unknown precision 'int3', expected one of auto, 4bit, 8bit, bf16"):
            call("int3")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps", SimpleNamespace(is_available=lambda: True))
    assert choose_device("auto").value == "mps"
    assert choose_device("cpu").value == "cpu"
    with pytest.raises(UsageError, match="no cuda device here"):
        choose_device("cuda")
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        choose_device("tpu")
