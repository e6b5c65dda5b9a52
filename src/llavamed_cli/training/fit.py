"""`--max-tokens auto`: the longest rows that fit, tried on the data's own rows on CUDA, by the estimate elsewhere.

Longer rows keep a GPU busier. They never change the loss, so the choice is made once, told, recorded, and taken from
the record when an interrupted run goes on: the same rows, and thus the same rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import TrainingError
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.precision import Choice
from llavamed_cli.model.segment_attention import choose_segments, use_segments
from llavamed_cli.progress import Progress
from llavamed_cli.training.autocast import computing
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.features import FrozenFeatures, LearnedFeatures
from llavamed_cli.training.layout import lay_row
from llavamed_cli.training.packing import Row, plan_epoch
from llavamed_cli.training.parts import tower_learns, trained_parameters
from llavamed_cli.training.planning.epoch import CountedSamples, largest_of, row_size
from llavamed_cli.training.planning.machine import Machine, this_machine
from llavamed_cli.training.planning.memory import TrainingMemory, size_text, training_memory
from llavamed_cli.training.planning.model_sizes import model_sizes
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.step import row_loss
from llavamed_cli.world import ALONE, World

if TYPE_CHECKING:
    from transformers import LlavaConfig

    from llavamed_cli.run_record import Run
    from llavamed_cli.training.stage import Prepared

STEP = 256
"""Budgets are multiples of it."""
MOST = {"cuda": 32_768, "cpu": 4_096, "mps": 8_192}
"""Beyond these, rows were not found to go faster."""
STEPS_LOOKED_AT = 32
"""A budget's rows are those of so many steps; a tenth of the memory is kept for rows that are worse."""


def settle_max_tokens(
    prepared: Prepared, recipe: Recipe, run: Run, *, seed: int, progress: Progress, world: World = ALONE
) -> Choice:
    """What an interrupted run has recorded, or what fits now in every process, recorded at once.

    Raises:
        TrainingError: nothing fits.
    """
    recorded = run.record["choices"].get("max_tokens")
    if recorded is not None:
        return Choice(recorded["value"], recorded["reason"])
    loaded = prepared.loaded
    machine = replace(this_machine(loaded), cards=world.size)
    found = fit_max_tokens(loaded, prepared.examples, recipe, machine, seed=seed, progress=progress)
    chosen = min(world.exchange(found), key=lambda choice: int(choice.value))
    if world.leads:
        run.choose("max_tokens", chosen.value, chosen.reason)
    return chosen


def fit_max_tokens(
    loaded: LoadedModel, examples: ExampleSet, recipe: Recipe, machine: Machine, *, seed: int, progress: Progress
) -> Choice:
    """The longest rows that fit this machine beside weights, gradients and moments.

    Raises:
        TrainingError: not even rows as long as the longest sample fit.
    """
    budgets = _budgets(examples, recipe, machine)
    if loaded.device != "cuda":
        return estimate_max_tokens(
            _config(loaded), examples, recipe, machine, precision=loaded.choices["precision"].value, seed=seed
        )
    progress.note("trying how long rows may be")
    trial = _Trial(loaded, examples, recipe, machine, seed)
    found = largest(budgets, trial.fits)
    if found is None:
        raise _nothing_fits(budgets[0], trial.estimate(budgets[0]), machine)
    return Choice(str(found), f"tried on rows of the data{_next(found, budgets, 'ran out of memory')}")


def estimate_max_tokens(
    config: LlavaConfig, samples: CountedSamples, recipe: Recipe, machine: Machine, *, precision: str, seed: int
) -> Choice:
    """The same by arithmetic alone. Off CUDA the rows share what is left with features that are kept, half and half.

    Raises:
        TrainingError: not even rows as long as the longest sample fit.
    """
    sizes = model_sizes(config, recipe, precision=precision)

    def memory(budget: int) -> TrainingMemory:
        rows = heavy_rows(samples, replace(recipe, max_tokens=budget), seed=seed)
        row = largest_of([row_size(samples, row, share=recipe.share_pictures) for row in rows])
        return training_memory(sizes, recipe, row, precision=precision, device=machine.device, cards=machine.cards)

    def fits(budget: int) -> bool:
        needed = memory(budget)
        left = machine.room - needed.lasting
        return needed.total - needed.lasting <= (left if machine.device == "cuda" else left / 2)

    budgets = _budgets(samples, recipe, machine)
    found = largest(budgets, fits)
    if found is None:
        raise _nothing_fits(budgets[0], memory(budgets[0]), machine)
    shown = f"{size_text(memory(found).total)} by the plan, of {machine.sentence()}"
    return Choice(str(found), shown + _next(found, budgets, "would not fit"))


def largest(budgets: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The largest of ascending `budgets` that fits, where all below one that fits do: small ones are tried first, as
    one that fails may take its time. None where the first does not."""
    good, bad = -1, len(budgets)
    reach = 1
    while bad - good > 1:
        place = min(good + reach, bad - 1) if bad == len(budgets) else (good + bad) // 2
        if fits(budgets[place]):
            good, reach = place, reach * 2
        else:
            bad = place
    return None if good < 0 else budgets[good]


def heavy_rows(samples: CountedSamples, recipe: Recipe, *, seed: int) -> list[Row]:
    """Of the first steps' rows the ones with most tokens, with most learned tokens, and with most pictures."""
    rows = [row for step in plan_epoch(samples, recipe, seed=seed, epoch=0)[:STEPS_LOOKED_AT] for row in step]
    sizes = [(row, row_size(samples, row, share=recipe.share_pictures)) for row in rows]
    heaviest = [max(sizes, key=lambda one: getattr(one[1], name))[0] for name in ("tokens", "learned", "pictures")]
    return list(dict.fromkeys(heaviest))


def _budgets(samples: CountedSamples, recipe: Recipe, machine: Machine) -> list[int]:
    """From the longest sample to all tokens of a step, shared among the devices: none is to wait for others."""
    import numpy

    lengths = numpy.sort(samples.lengths)
    least, step = _rounded(int(lengths[-1])), int(lengths[-recipe.batch_size :].sum())
    most = min(MOST[machine.device], _rounded(step // machine.cards))
    return list(range(least, max(least, most) + 1, STEP))


def _rounded(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def _next(found: int, budgets: Sequence[int], what: str) -> str:
    if found == budgets[-1]:
        return "; longer ones would bring nothing"
    return f"; {found + STEP:,} {what}"


def _nothing_fits(least: int, needed: TrainingMemory, machine: Machine) -> TrainingError:
    parts = "\n    ".join(needed.lines())
    return TrainingError(
        f"not even rows of {least:,} tokens, as the longest sample needs, fit {machine.sentence()}\n    {parts}",
        where="--max-tokens auto",
        hint="--plan says what else to change so that it fits.",
    )


def _config(loaded: LoadedModel) -> LlavaConfig:
    net: Any = loaded.model
    config: LlavaConfig = net.config
    return config


class _Trial:
    """Trains on rows, and throws the gradients away; room for the optimiser's moments is taken meanwhile."""

    def __init__(self, loaded: LoadedModel, examples: ExampleSet, recipe: Recipe, machine: Machine, seed: int) -> None:
        self._loaded, self._examples, self._recipe, self._machine, self._seed = loaded, examples, recipe, machine, seed
        self._sizes = model_sizes(_config(loaded), recipe, precision=loaded.choices["precision"].value)
        self._features = LearnedFeatures(loaded) if tower_learns(loaded.model) else FrozenFeatures(loaded)
        use_segments(loaded.model, choose_segments(loaded.device, loaded.choices["precision"].value).value)

    def fits(self, budget: int) -> bool:
        """Whether the heaviest rows of a budget run, with gradients held from a row before."""
        import torch

        net: Any = self._loaded.model
        rows = heavy_rows(self._examples, replace(self._recipe, max_tokens=budget), seed=self._seed)
        training = net.training
        net.train()
        try:
            with torch.random.fork_rng():
                moments = sum(one.moments(self._recipe.optimizer) for one in self._sizes.trained)
                spared = self._machine.free - self._machine.room
                reserve = torch.empty(moments + spared, dtype=torch.uint8, device=self._loaded.device)
                for parameter in trained_parameters(self._loaded.model).values():
                    parameter.grad = torch.zeros_like(parameter)
                for row in rows:
                    self._learn(row)
                del reserve
        except torch.OutOfMemoryError:
            return False
        finally:
            net.zero_grad(set_to_none=True)
            net.train(training)
            torch.cuda.empty_cache()
        return True

    def estimate(self, budget: int) -> TrainingMemory:
        """The arithmetic, to be told where nothing ran."""
        rows = heavy_rows(self._examples, replace(self._recipe, max_tokens=budget), seed=self._seed)
        row = largest_of([row_size(self._examples, row, share=self._recipe.share_pictures) for row in rows])
        precision = self._loaded.choices["precision"].value
        return training_memory(self._sizes, self._recipe, row, precision=precision, device="cuda")

    def _learn(self, row: Row) -> None:
        loaded = self._loaded
        packed = lay_row(self._examples, row, share=self._recipe.share_pictures).to(loaded.device)
        seen = self._features.of(packed.pictures) if packed.pictures else None
        with computing(loaded):
            loss = row_loss(loaded.model, packed, seen)
        if loss.requires_grad:
            loss.backward()
