"""Which device and number format a model runs in: chosen once, with the reason, for every command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llavamed_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    import torch

    from llavamed_cli.model.free_memory import FreeMemory
    from llavamed_cli.model.memory_plan import MemoryPlan

DEVICES = ("auto", "cuda", "mps", "cpu")
QUANTISED = ("4bit", "8bit")
PRECISIONS = ("auto", *QUANTISED, "bf16", "fp16", "fp32")
GB = 10**9
HEADROOM = 0.1
"""Of the free memory, kept for what no plan counts: kernels' work space, fragments, other programs."""


@dataclass(frozen=True)
class Choice:
    """An automatic choice and why it fell so; printed once and kept in run.json."""

    value: str
    reason: str


def choose_device(wanted: str) -> Choice:
    """Resolve `auto`, or check that the device wanted is there. Raises UsageError otherwise."""
    import torch

    if wanted not in DEVICES:
        raise UsageError(f"unknown device {wanted!r}, expected one of {', '.join(DEVICES)}", where="--device")
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted != "auto":
        if not present[wanted]:
            raise UsageError(f"no {wanted} device here", where="--device", hint="Use --device cpu or auto.")
        return Choice(wanted, "asked for")
    best = next(name for name, there in present.items() if there)
    reasons = {"cuda": "a CUDA device is there", "mps": "Apple's GPU is there", "cpu": "no GPU here"}
    return Choice(best, reasons[best])


def check_precision(wanted: str) -> None:
    """Raise UsageError for a name that is none."""
    if wanted not in PRECISIONS:
        raise UsageError(f"unknown precision {wanted!r}, expected one of {', '.join(PRECISIONS)}", where="--precision")


def choose_precision(wanted: str, device: str) -> Choice:
    """The precision to train in, by the device alone: bf16 on CUDA, fp32 elsewhere (on a CPU bf16 was measured slower).

    Raises:
        UsageError: unknown, or one that holds no weights that could learn.
    """
    check_precision(wanted)
    if wanted in QUANTISED:
        raise UsageError(
            f"{wanted} weights can answer, not learn",
            where="--precision",
            hint="Train in bf16 or fp32, and name 4bit or 8bit where the model is asked.",
        )
    if wanted != "auto":
        return Choice(wanted, "asked for")
    if device == "cuda" and has_bf16():
        return Choice("bf16", "the device is CUDA")
    if device == "cuda":
        return Choice("fp32", "this GPU has no bf16, and in fp16 small gradients vanish")
    return Choice("fp32", f"exact, and the fastest on {device}")


def fit_precision(wanted: Sequence[str], plan: Callable[[str], MemoryPlan], free: FreeMemory, where: str) -> Choice:
    """The first of `wanted` (the widest first) whose plan fits the memory that is free now.

    Raises:
        ModelError: none fits; the message holds the arithmetic.
    """
    room = int(free.bytes * (1 - HEADROOM))
    plans = [plan(precision) for precision in wanted]
    found = next((place for place, planned in enumerate(plans) if planned.total <= room), None)
    if found is None:
        needs = "\n    ".join(f"{planned.precision}: {planned.sentence()}" for planned in plans)
        raise ModelError(
            f"no precision fits: {free.sentence()}, of which a tenth stays free\n    {needs}",
            where=where,
            hint="Free some memory, or use a device with more; --precision NAME tries it all the same.",
        )
    chosen, wider = plans[found], plans[:found]
    skipped = "".join(f"; {planned.precision} would take {planned.total / GB:.2f} GB" for planned in wider)
    return Choice(chosen.precision, f"{chosen.sentence()}; {free.sentence()}{skipped}")


def candidates(device: str, *, quantised: bool) -> tuple[str, ...]:
    """What `auto` tries, the widest first; fp32 on a GPU is left to those who ask: twice the memory, half the speed.

    quantised: whether bitsandbytes is there. On a CPU its 8-bit layers are slower than all others, and are left out.
    """
    if device == "cuda":
        return ("bf16" if has_bf16() else "fp16", *(("8bit", "4bit") if quantised else ()))
    return ("fp32", "bf16", *(("4bit",) if quantised and device == "cpu" else ()))


def has_bf16() -> bool:
    """Whether this CUDA device computes in bf16: compute capability 8.0 (Ampere) and later, or AMD's."""
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def torch_dtype(precision: str) -> torch.dtype:
    """The torch dtype of an unquantised precision."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]


def compute_dtype(precision: str, device: str) -> torch.dtype:
    """What a model computes in, and holds its unquantised parts in.

    Quantised: bf16 on CUDA that has it, fp16 on older CUDA; fp32 on a CPU, where it is exact and as fast.
    """
    if precision not in QUANTISED:
        return torch_dtype(precision)
    if device == "cuda":
        return torch_dtype("bf16" if has_bf16() else "fp16")
    return torch_dtype("fp32")
