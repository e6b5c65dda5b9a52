"""Accelerators by name: what they hold and how fast they multiply at best, as their makers' data sheets have it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llavamed_cli.errors import UsageError
from llavamed_cli.model.precision import GB

TERA = 10**12
UTILISATION = 0.4
"""Of the peak, what training reaches: 46% in PaLM (arXiv 2204.02311, table 3), 38 to 43% in Llama 3 (arXiv 2407.21783,
table 4), both tuned for long. Quantised weights are unpacked on the way, and reach less."""


@dataclass(frozen=True)
class Card:
    """One accelerator: bytes of memory as it is sold, and dense bf16 operations a second with fp32 sums."""

    memory: int
    peak: float


CARDS = {
    "a100-40gb": Card(40 * GB, 312 * TERA),
    "a100-80gb": Card(80 * GB, 312 * TERA),
    "h100-80gb": Card(80 * GB, 989 * TERA),
    "h200-141gb": Card(141 * GB, 989 * TERA),
    "l4-24gb": Card(24 * GB, 121 * TERA),
    "a10-24gb": Card(24 * GB, 125 * TERA),
    "l40s-48gb": Card(48 * GB, 362 * TERA),
    "a6000-48gb": Card(48 * GB, 155 * TERA),
    "rtx3090-24gb": Card(24 * GB, 71 * TERA),
    "rtx4090-24gb": Card(24 * GB, 165 * TERA),
}
"""NVIDIA's data sheets and, for the RTX cards, its architecture white papers; no sparsity; H100 and H200 as SXM."""
NAME = re.compile(r"(?P<card>[\w.-]+?)(?::(?P<count>[1-9]\d{0,5}))?")


@dataclass(frozen=True)
class Hardware:
    """Some cards of one kind."""

    name: str
    card: Card
    count: int

    @property
    def rate(self) -> float:
        """Operations a second that training may hope for, all cards together."""
        return self.count * self.card.peak * UTILISATION

    def sentence(self) -> str:
        """The rate's arithmetic."""
        return f"{self.count} x {self.card.peak / TERA:g} TFLOP/s ({self.name}) x {UTILISATION:.0%} assumed utilisation"


def find_hardware(wanted: str) -> Hardware:
    """`NAME` or `NAME:COUNT`, such as `a100-80gb:8`.

    Raises:
        UsageError: no such card is known.
    """
    match = NAME.fullmatch(wanted.strip().lower())
    card = CARDS.get(match["card"]) if match else None
    if match is None or card is None:
        raise UsageError(
            f"unknown hardware {wanted!r}, expected NAME or NAME:COUNT of {', '.join(CARDS)}",
            where="--hardware",
            hint="For any other: --memory GB and --rate TOKENS_PER_SECOND.",
        )
    return Hardware(match["card"], card, int(match["count"] or 1))
