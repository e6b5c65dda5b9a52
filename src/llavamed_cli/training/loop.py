"""The training loop: step by step through the planned rows, able to stop after any step and go on as if it had not.

Everything a step depends on is a function of its number, the seed and the checkpoint: order and packing
(`packing.plan_epoch`), which process has which rows (`distributed.deal`), learning rate, and the random state. So a run
that was stopped and repeated ends with the same weights, bit for bit on CPU processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.segment_attention import choose_segments, use_segments
from llavamed_cli.progress import Bar, Progress
from llavamed_cli.training.checkpoint import Checkpoint, load_best, load_checkpoint, save_best, save_checkpoint
from llavamed_cli.training.checkpoint_place import Place
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.features import Features
from llavamed_cli.training.judging import Judged
from llavamed_cli.training.learner import Learner, Replica
from llavamed_cli.training.metrics import Metrics, Tracker
from llavamed_cli.training.packing import Step, plan_epoch
from llavamed_cli.training.part_of_step import learn_part
from llavamed_cli.training.parts import tower_learns
from llavamed_cli.training.random_state import RandomState, random_state, restore_random_state, seed_training
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.schedule import Schedule
from llavamed_cli.training.sharding import Sharded, asked_to_shard
from llavamed_cli.training.signals import stop_requests
from llavamed_cli.training.step_faults import is_out_of_memory, memory_fault, number_fault
from llavamed_cli.training.validation import validate
from llavamed_cli.world import ALONE, World

if TYPE_CHECKING:
    import threading

    from llavamed_cli.training.validation import ValidationSet

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Training:
    """One stage to train: a model with its parts prepared, examples, what the tower sees, and the recipe.

    identity: a hash of model, recipe and data, so that checkpoints of another run are refused. world: the processes
    that train together. validation: samples to judge the model by on the way. tracker: where figures go as well.
    """

    loaded: LoadedModel
    examples: ExampleSet = field(repr=False)
    features: Features = field(repr=False)
    recipe: Recipe
    seed: int
    out: Path
    identity: str
    world: World = ALONE
    validation: ValidationSet | None = None
    tracker: Tracker | None = None

    def run(self, progress: Progress) -> Trained:
        """Train to the end, from the last checkpoint where there is one.

        The model is left with the weights of the best step where there is a validation, else of the last; whole in
        process 0.

        Raises:
            TrainingError: a loss that is not a number, memory that ran out, or a checkpoint that cannot be used or
                written. DataError: a picture is gone or was changed; what was done is saved.
            KeyboardInterrupt: stopped by Ctrl-C or SIGTERM, after the step under way was saved.
        """
        return _Loop(self, progress).run()


@dataclass(frozen=True)
class Trained:
    """steps: done. judged: what validations found, where there were any."""

    steps: int
    judged: Judged


class _Loop:
    """The moving parts of a run: what learns, how many steps are done, and what validations found."""

    def __init__(self, training: Training, progress: Progress) -> None:
        self.of = training
        self.progress = progress
        self.world = training.world
        self.schedule = Schedule.of(training.recipe, len(training.examples))
        loaded = training.loaded
        use_segments(loaded.model, choose_segments(loaded.device, loaded.choices["precision"].value).value)
        splits = asked_to_shard() and self.world.size > 1
        self.learner: Learner = (Sharded if splits else Replica)(loaded, training.recipe, self.world)
        self.place = Place(training.out, training.identity, self.world, self.learner.sharded)
        self.metrics = Metrics(training.out, training.tracker)
        self.judged = Judged()
        self.done = self.saved = 0
        self.random: RandomState = {}
        """Where the random numbers stood before the step under way."""

    def run(self) -> Trained:
        self._start()
        with stop_requests() as stop, self.progress.bar("training", self.schedule.total, self.done) as bar:
            for rows in self._steps():
                if self._advance(rows, stop, bar):
                    break
        self._take_best()
        return Trained(self.done, self.judged)

    def _start(self) -> None:
        """Weights, optimiser and random numbers as the last checkpoint left them, or new."""
        seed_training(self.of.seed, self.world.rank)
        found = load_checkpoint(self.place, self.progress)
        if found is not None:
            self.learner.restore(found.weights, found.states)
            restore_random_state(found.random_state)
            self.done = self.saved = found.step
            self.judged = Judged(**found.judged)
            self.progress.note(f"going on after step {found.step}")
        if self.world.leads:
            self.metrics.cut(self.done)
        if self._due() and self.judged.last < self.done:  # it was stopped between the step and its validation
            figures = self._validate()
            if self.world.leads:
                self.metrics.amend(figures)

    def _steps(self) -> Iterator[Step]:
        first = self.done
        if self.judged.gives_up(self.of.recipe.patience):
            return
        for step in range(first, self.schedule.total):
            epoch, place = divmod(step, self.schedule.per_epoch)
            if place == 0 or step == first:
                plan = plan_epoch(self.of.examples, self.of.recipe, seed=self.of.seed, epoch=epoch)
            if step == first and len(plan[place]) < self.world.size:
                self.progress.note(
                    f"{len(plan[place])} row(s) a step for {self.world.size} processes, so that some wait: "
                    "a lower --max-tokens makes more rows, a larger --batch-size too"
                )
            yield plan[place]

    def _advance(self, rows: Step, stop: threading.Event, bar: Bar) -> bool:
        """One step, and what is due after it; whether it was the last one."""
        began = time.perf_counter()
        figures, stopping = self._step(rows, stop)
        seconds = time.perf_counter() - began
        figures["seconds"] = round(seconds, 3)
        self.done += 1
        last = self.done == self.schedule.total
        bar.advance(loss=f"{figures['loss']:.3f}", speed=f"{figures['tokens'] / seconds:.0f} tok/s")
        stopping = stopping or (self.world.size == 1 and stop.is_set())  # of others' requests it hears a step later
        if self._due() and (last or not stopping):
            figures |= self._validate()
            last = last or self.judged.gives_up(self.of.recipe.patience)
        if self.world.leads:
            self.metrics.record(figures)
        if not last and (stopping or self.done % self.of.recipe.save_every == 0):
            self._save(random_state(self.of.loaded.device))
        if stopping and not last:
            self.progress.note(
                f"stopped after step {self.done} of {self.schedule.total}; the same command goes on from there"
            )
            raise KeyboardInterrupt if self.world.leads else SystemExit(INTERRUPTED)
        return last

    def _step(self, rows: Step, stop: threading.Event) -> tuple[dict[str, Any], bool]:
        """One optimiser step: the mean loss over all supervised tokens of the step's samples, of all processes.

        Returns the step's figures, and whether any process was asked to stop.
        """
        of, number = self.of, self.done + 1
        model: Any = of.loaded.model
        model.train()
        model.model.vision_tower.train(tower_learns(model))
        samples = [index for row in rows for index in row]
        learned = int(of.examples.supervised[samples].sum())
        self.random = random_state(of.loaded.device)
        loss, tokens, fault = 0.0, 0, None
        try:
            loss, tokens = learn_part(of, self.learner, rows, learned)
        except Exception as error:
            fault = error
        told = self._meet((loss, tokens, stop.is_set(), fault is not None), fault)
        total = sum(loss for loss, *_ in told)
        if not math.isfinite(total):
            raise number_fault("loss", total, number, of.examples, samples)
        share = self.schedule.rate_share(self.done)
        norm = self._take_step(share, pictures=bool(of.examples.picture_counts[samples].any()))
        if not math.isfinite(norm) and of.loaded.choices["precision"].value != "fp16":
            raise number_fault("gradient", norm, number, of.examples, samples)
        figures = {
            "step": number,
            "epoch": round(number / self.schedule.per_epoch, 4),
            "loss": total,
            "learning_rate": share * of.recipe.learning_rate,
            "grad_norm": norm if math.isfinite(norm) else None,  # of a step that fp16's scaler left out
            "tokens": sum(tokens for _, tokens, *_ in told),
            "supervised_tokens": learned,
            "rows": len(rows),
        }
        return figures, any(stopping for *_, stopping, _ in told)

    def _meet(self, mine: tuple[float, int, bool, bool], fault: Exception | None) -> Sequence[Any]:
        """What each process has to tell of a step. Where one failed all save what was done before it, and end."""
        if fault is not None and self.learner.sharded:
            self.world.leave()  # the others wait for its part of a layer, not here
            raise self._explained(fault, saved=False)
        told = self.world.exchange(mine)
        if any(failed for *_, failed in told):
            self.learner.drop()
            if self.done > self.saved:
                self._save(self.random)
            if fault is not None:
                fault = self._explained(fault, saved=True)
            self.world.exchange(None, fault)
        return told

    def _explained(self, fault: Exception, *, saved: bool) -> Exception:
        if not is_out_of_memory(fault):
            return fault
        kept = self.done if saved else self.saved
        where = f"Step {kept} is saved in {self.place.root}." if kept else "Nothing is saved yet."
        return memory_fault(self.done + 1, self.of.recipe, where)

    def _take_step(self, share: float, *, pictures: bool) -> float:
        try:
            return self.learner.step(share, self.of.recipe.max_grad_norm, pictures=pictures)
        except Exception as error:
            self.world.leave()  # the others may wait for its gradients; its weights may be half a step on
            if not is_out_of_memory(error):
                raise
            raise self._explained(error, saved=False) from error

    def _due(self) -> bool:
        """Whether the step that was done last is one to validate after."""
        last = self.done == self.schedule.total
        return (
            self.of.validation is not None
            and self.done > 0
            and (self.done % self.of.recipe.validate_every == 0 or last)
        )

    def _validate(self) -> dict[str, Any]:
        """Judge the model as it is; keep its weights where it was never better. Returns what goes into the metrics."""
        of = self.of
        assert of.validation is not None
        with self.learner.resting(self.world) as takes_part:
            mine = validate(of.loaded, of.validation, of.recipe, of.features) if takes_part else None
        found = self.world.exchange(mine)[0]
        assert found is not None
        self.judged = self.judged.after(self.done, found.loss)
        best = self.judged.best_step == self.done
        self.progress.note(f"validation after step {self.done}: loss {found.loss:.4f}{', the best so far' * best}")
        for answer in found.answers:
            self.progress.note(f"  {answer.line()}")
        if best:
            save_best(self.place, self.learner.weights(), step=self.done, loss=found.loss)
        answers = [asdict(answer) for answer in found.answers]
        return {"validation_loss": found.loss, "validation_tokens": found.tokens, "validation_answers": answers}

    def _take_best(self) -> None:
        """Leave the model with the weights it was best with."""
        if self.of.validation is not None and self.judged.best_step not in (0, self.done):
            step, weights = load_best(self.place)
            self.learner.restore(weights)
            self.progress.note(f"the weights of step {step} are taken: their validation loss was the lowest")
        self.learner.gather(self.world)

    def _save(self, random: RandomState) -> None:
        """Save the steps that are done. random: where the random numbers stood after the last of them."""
        checkpoint = Checkpoint(
            step=self.done,
            weights=self.learner.weights(),
            states=self.learner.states(),
            random_state=random,
            judged=asdict(self.judged),
        )
        save_checkpoint(self.place, checkpoint, keep=self.of.recipe.keep)
        self.saved = self.done
