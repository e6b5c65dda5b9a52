"""`--plan`: what a run will take before it starts, with the arithmetic: tokens, steps, memory by part, hours.

Everything but a rate measured here comes from the model's config and the samples' lengths, so that a run can be planned
on a machine that could never hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from llavamed_cli.training.planning.arithmetic import Work, count_work
from llavamed_cli.training.planning.epoch import CountedSamples, EpochCount, count_epoch
from llavamed_cli.training.planning.hardware import Hardware
from llavamed_cli.training.planning.machine import Machine
from llavamed_cli.training.planning.memory import RowSize, TrainingMemory, size_text, training_memory
from llavamed_cli.training.planning.model_sizes import HELD, ModelSizes, model_sizes
from llavamed_cli.training.planning.remedies import Remedy, find_remedies
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.schedule import Schedule

if TYPE_CHECKING:
    from transformers import LlavaConfig


@dataclass(frozen=True)
class MeasuredRate:
    """Seconds that a computed token takes, forward and backward, and a picture in the tower."""

    token: float
    picture: float


@dataclass(frozen=True)
class GivenRate:
    """Computed tokens a second, of all devices together."""

    tokens: float


Speed = MeasuredRate | GivenRate | Hardware


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will take.

    epoch: one pass through the data. features: bytes of what the frozen tower sees of all pictures. remedies: what else
    was tried, where it does not fit. seconds_how: where the seconds come from.
    """

    recipe: Recipe
    epoch: EpochCount
    parameters: int
    trained: int
    steps: int
    memory: TrainingMemory
    machine: Machine
    fits: bool
    remedies: tuple[Remedy, ...]
    features: int
    work: Work
    seconds: float
    seconds_how: str

    def lines(self) -> list[str]:
        """The plan for a person."""
        epoch, memory = self.epoch, self.memory
        verdict = "fits" if self.fits else "DOES NOT FIT"
        return [
            f"samples      {epoch.samples:,} with {epoch.pictures:,} pictures",
            f"parameters   {self.trained:,} of {self.parameters:,} trained",
            f"an epoch     {epoch.tokens:,} tokens, {epoch.supervised:,} of them supervised",
            f"computed     {epoch.laid:,} tokens an epoch, {epoch.tokens / epoch.laid:.2f} times fewer: "
            "samples about one picture share its tokens"
            if epoch.laid < epoch.tokens
            else f"computed     {epoch.laid:,} tokens an epoch",
            f"packing      {epoch.rows:,} rows of {self.recipe.max_tokens:,} tokens, filled to {epoch.fill:.0%}",
            f"steps        {self.steps:,} of {self.recipe.batch_size} samples, {epoch.steps:,} an epoch",
            *self._feature_lines(),
            f"memory       {size_text(memory.total)}{_each(memory)}: {verdict} ({self.machine.sentence()})",
            *(f"  {line}" for line in memory.lines()),
            *self._remedy_lines(),
            f"time         about {_duration(self.seconds)}: {self.seconds_how}",
            *(f"  {line}" for line in self.work.lines()),
            f"  {'in all':<34}{self.work.total:>8.1e}     floating-point operations",
        ]

    def _feature_lines(self) -> list[str]:
        if not self.features:
            return []
        return [f"features     {size_text(self.features)} of memory or disk keep what the tower sees (cache_features)"]

    def _remedy_lines(self) -> list[str]:
        return ["to fit       add:", *(f"  {remedy.line()}" for remedy in self.remedies)] if self.remedies else []

    def as_values(self) -> dict[str, Any]:
        """The plan for a machine."""
        values = asdict(self)
        values["recipe"] = self.recipe.as_options()
        return {"samples": self.epoch.samples, "pictures": self.epoch.pictures, **values}


def plan_training(
    config: LlavaConfig,
    samples: CountedSamples,
    recipe: Recipe,
    *,
    precision: str,
    machine: Machine,
    speed: Speed,
    seed: int,
) -> Plan:
    """Count; no weight is needed.

    Args:
        precision: fp32, bf16 or fp16: what is computed in.

    Raises:
        UsageError: the recipe's `train` names what this model does not have.
    """
    epoch = count_epoch(samples, recipe, seed=seed)
    memory = _planner(config, epoch, recipe, precision, machine)
    sizes = model_sizes(config, recipe, precision=precision)
    schedule = Schedule.of(recipe, epoch.samples)
    work = count_work(sizes, recipe, epoch, schedule.total)
    here = memory(recipe, machine.cards)
    fits = here.total <= machine.room
    longest = int(samples.lengths.max())
    seconds, how = _seconds(speed, epoch, work, schedule.total / epoch.steps)
    return Plan(
        recipe=recipe,
        epoch=epoch,
        parameters=sizes.numbers,
        trained=sizes.trained_numbers,
        steps=schedule.total,
        memory=here,
        machine=machine,
        fits=fits,
        remedies=() if fits else find_remedies(recipe, memory, room=machine.room, longest=longest, cards=machine.cards),
        features=_features(sizes, recipe, epoch, schedule.total, precision),
        work=work,
        seconds=seconds,
        seconds_how=how,
    )


def _planner(
    config: LlavaConfig, epoch: EpochCount, planned: Recipe, precision: str, machine: Machine
) -> Callable[[Recipe, int], TrainingMemory]:
    """Memory by recipe and number of devices: whole on each where that fits (DDP), sharded where not (FSDP)."""

    @cache
    def sizes_of(structure: Recipe) -> ModelSizes:
        return model_sizes(config, structure, precision=precision)

    def memory(recipe: Recipe, cards: int) -> TrainingMemory:
        sizes = sizes_of(_structure(recipe))
        row = _row(epoch.largest, planned.max_tokens, recipe.max_tokens, device=machine.device)

        def on(sharded: bool) -> TrainingMemory:
            return training_memory(
                sizes, recipe, row, precision=precision, device=machine.device, cards=cards, sharded=sharded
            )

        whole = on(False)
        return whole if cards == 1 or whole.total <= machine.room else on(True)

    return memory


def _structure(recipe: Recipe) -> Recipe:
    """What of a recipe a model's sizes depend on."""
    return Recipe(
        train=recipe.train, lora_rank=recipe.lora_rank, lora_alpha=recipe.lora_alpha, quantise=recipe.quantise
    )


def _row(largest: RowSize, planned: int, tokens: int, *, device: str) -> RowSize:
    """The largest row, had rows another budget; keys are repeated by flash attention alone."""
    row = largest if device == "cuda" else replace(largest, keys=largest.tokens)
    if tokens == planned:
        return row
    return RowSize(*(round(value * tokens / planned) for value in vars(row).values()))


def _seconds(speed: Speed, epoch: EpochCount, work: Work, epochs: float) -> tuple[float, str]:
    tokens = epoch.laid * epochs
    if isinstance(speed, GivenRate):
        return tokens / speed.tokens, f"{tokens:,.0f} tokens at {speed.tokens:,.0f} a second, as given"
    if isinstance(speed, Hardware):
        return work.total / speed.rate, f"{work.total:.1e} operations / ({speed.sentence()})"
    pictures = epoch.pictures
    how = (
        f"{tokens:,.0f} tokens at {1 / speed.token:,.0f} a second and {pictures:,} pictures at "
        f"{1 / speed.picture if speed.picture else 0:,.1f} a second, from one row measured here"
    )
    return tokens * speed.token + pictures * speed.picture, how


def _features(sizes: ModelSizes, recipe: Recipe, epoch: EpochCount, steps: int, precision: str) -> int:
    """Bytes of what the tower sees of all pictures; 0 where it is not kept, as where each is met once."""
    once = epoch.looks * steps / epoch.steps <= 1.01 * epoch.pictures  # looks of a long epoch are an estimate
    if sizes.tower_trained or recipe.cache_features == "off" or (once and recipe.cache_features == "auto"):
        return 0
    return epoch.pictures * sizes.picture * sizes.tower[1] * HELD[precision]


def _each(memory: TrainingMemory) -> str:
    if memory.cards == 1:
        return ""
    return f" on each of {memory.cards} devices, {'sharded by FSDP' if memory.sharded else 'whole on each (DDP)'}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
