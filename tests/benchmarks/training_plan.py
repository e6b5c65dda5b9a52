"""What LLaVA-Med's own training takes, by arithmetic:  python tests/benchmarks/training_plan.py

Nothing is loaded and no GPU is needed: the plans are those of `--plan`, for LLaMA 7B with CLIP ViT-L/14 at 224 pixels
(256 tokens a picture), on eight A100 of 80 GB and on one card of 24 GB. The data are stated, not read: 500,000 captions
and 60,000 conversations with a picture each (LLaVA-Med v1.0's README); text of 85 and of 270 tokens on average, spread
log-normally, 65% of it learned; those three numbers are assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy
from memory_plan import MODELS

from llavamed_cli.training.planning.hardware import find_hardware
from llavamed_cli.training.planning.machine import machine_of
from llavamed_cli.training.planning.plan import Plan, plan_training
from llavamed_cli.training.recipe import load_recipe

MODEL, PICTURE = MODELS["LLaVA-Med v1.0 7B (LLaMA)"]
BEFORE, LONGEST, SPREAD, LEARNED = 35, 1500, 0.55, 0.65
"""Tokens before the picture; the most of a text; the logarithm's standard deviation; the share that is learned."""


@dataclass(frozen=True)
class Stated:
    """So many samples, a picture each, whose texts have `mean` tokens on average."""

    pictures: int
    mean: float

    @cached_property
    def _texts(self) -> numpy.ndarray:
        draw = numpy.random.default_rng(0)
        texts = draw.lognormal(numpy.log(self.mean) - SPREAD**2 / 2, SPREAD, self.pictures)
        return texts.clip(10, LONGEST).astype(numpy.int64)

    @cached_property
    def lengths(self) -> numpy.ndarray:
        return self._texts + BEFORE + PICTURE

    @cached_property
    def supervised(self) -> numpy.ndarray:
        return (self._texts * LEARNED).astype(numpy.int64)

    @cached_property
    def picture_keys(self) -> numpy.ndarray:
        return numpy.arange(self.pictures)

    @cached_property
    def picture_counts(self) -> numpy.ndarray:
        return numpy.ones(self.pictures, dtype=numpy.int64)

    @cached_property
    def prefix_lengths(self) -> numpy.ndarray:
        return numpy.full(self.pictures, BEFORE + PICTURE)


CAPTIONS, CONVERSATIONS = Stated(500_000, 85), Stated(60_000, 270)
RUNS = (
    ("align", "llava-med-align", CAPTIONS, "a100-80gb:8"),
    ("tune", "llava-med-tune", CONVERSATIONS, "a100-80gb:8"),
    ("tune", "llava-med-tune", CONVERSATIONS, "rtx4090-24gb"),
    ("tune", "one-gpu-24gb", CONVERSATIONS, "rtx4090-24gb"),
)


def planned(recipe: str, samples: Stated, hardware: str) -> Plan:
    """The plan of one run in bf16."""
    MODEL.image_seq_length = PICTURE
    cards = find_hardware(hardware)
    return plan_training(
        MODEL, samples, load_recipe(recipe, {}), precision="bf16", machine=machine_of(cards), speed=cards, seed=0
    )


def main() -> None:
    """Print the plans."""
    for command, recipe, samples, hardware in RUNS:
        print(f"llavamed {command} --recipe {recipe} --plan --hardware {hardware}")
        print("\n".join(f"    {line}" for line in planned(recipe, samples, hardware).lines()), end="\n\n")


if __name__ == "__main__":
    main()
