"""Which device and number format a model runs in: chosen once, with the reason, for every command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llavamed_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")


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


def choose_precision(wanted: str, device: str) -> Choice:
    """Resolve `auto`: bf16 on CUDA, fp32 elsewhere (on a CPU bf16 was measured slower: facts in README, "Speed")."""
    if wanted not in PRECISIONS:
        raise UsageError(f"unknown precision {wanted!r}, expected one of {', '.join(PRECISIONS)}", where="--precision")
    if wanted != "auto":
        return Choice(wanted, "asked for")
    if device == "cuda":
        return Choice("bf16", "the device is CUDA")
    return Choice("fp32", f"exact, and the fastest on {device}")


def torch_dtype(precision: str) -> torch.dtype:
    """The torch dtype of a resolved precision."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
