"""The training loop: step by step through the planned rows, able to stop after any step and go on as if it had not.

Everything a step depends on is a function of its number, the seed and the checkpoint: order and packing
(`packing.plan_epoch`), learning rate, and the random state. So a run that was stopped and repeated ends with the same
weights, bit for bit on one CPU process.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import DataError, PictureError, TrainingError
from llavamed_cli.files import atomic_write, json_line
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.segment_attention import choose_segments, use_segments
from llavamed_cli.progress import Progress
from llavamed_cli.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.features import Features
from llavamed_cli.training.layout import lay_row
from llavamed_cli.training.optimizer import make_optimizer, set_rates
from llavamed_cli.training.packing import Step, plan_epoch
from llavamed_cli.training.parts import tower_learns, trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.schedule import Schedule
from llavamed_cli.training.signals import stop_requests
from llavamed_cli.training.step import row_loss

if TYPE_CHECKING:
    import torch

METRICS_FILE = "metrics.jsonl"
IDS_NAMED = 8


@dataclass
class _State:
    """The loop's moving parts."""

    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    done: int = 0


@dataclass(frozen=True, kw_only=True)
class Training:
    """One stage to train: a model with its parts prepared, examples, what the tower sees, and the recipe.

    identity: a hash of model, recipe and data, so that checkpoints of another run are refused.
    """

    loaded: LoadedModel
    examples: ExampleSet = field(repr=False)
    features: Features = field(repr=False)
    recipe: Recipe
    seed: int
    out: Path
    identity: str

    def run(self, progress: Progress) -> Schedule:
        """Train to the end, from the last checkpoint where there is one.

        Raises:
            TrainingError: a loss that is not a number, or a checkpoint that cannot be used.
            DataError: a picture is gone or was changed; what was done is saved.
            KeyboardInterrupt: stopped by Ctrl-C or SIGTERM, after the step under way was saved.
        """
        schedule = Schedule.of(self.recipe, len(self.examples))
        loaded = self.loaded
        use_segments(loaded.model, choose_segments(loaded.device, loaded.choices["precision"].value).value)
        state = self._start(progress)
        accelerator = self._accelerator()
        with stop_requests() as stop, progress.bar("training", schedule.total, state.done) as bar:
            for rows in self._steps(state.done, schedule):
                began = time.perf_counter()
                figures = self._step(accelerator, state, schedule, rows)
                seconds = time.perf_counter() - began
                figures["seconds"] = round(seconds, 3)
                state.done += 1
                self._record(figures)
                bar.advance(loss=f"{figures['loss']:.3f}", speed=f"{figures['tokens'] / seconds:.0f} tok/s")
                last = state.done == schedule.total
                if stop.is_set() or (state.done % self.recipe.save_every == 0 and not last):
                    self._save(state)
                if stop.is_set() and not last:
                    progress.note(
                        f"stopped after step {state.done} of {schedule.total}; the same command goes on from there"
                    )
                    raise KeyboardInterrupt
        return schedule

    def _start(self, progress: Progress) -> _State:
        """Optimiser and weights as the last checkpoint left them, or new."""
        import torch

        parameters = trained_parameters(self.loaded.model)
        optimizer = make_optimizer(self.loaded.model, self.recipe)
        state = _State(parameters, optimizer)
        torch.manual_seed(self.seed)  # dropout alone draws from it
        found = load_checkpoint(self.out, identity=self.identity)
        self._cut_metrics(found.step if found else 0)
        if found is None:
            return state
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(found.weights[name])
        optimizer.load_state_dict(dict(found.optimizer))
        torch.set_rng_state(found.random_state)
        state.done = found.step
        progress.note(f"going on after step {found.step}")
        return state

    def _accelerator(self) -> Any:
        from accelerate import Accelerator

        accelerator: Any = Accelerator(
            cpu=self.loaded.device == "cpu",
            mixed_precision="bf16" if self.loaded.choices["precision"].value == "bf16" else "no",
        )
        if accelerator.num_processes > 1:
            raise TrainingError("training runs in one process; several are not supported yet")
        return accelerator

    def _steps(self, done: int, schedule: Schedule) -> Iterator[Step]:
        for step in range(done, schedule.total):
            epoch, place = divmod(step, schedule.per_epoch)
            if place == 0 or step == done:
                plan = plan_epoch(self.examples, self.recipe, seed=self.seed, epoch=epoch)
            yield plan[place]

    def _step(self, accelerator: Any, state: _State, schedule: Schedule, rows: Step) -> dict[str, Any]:
        """One optimiser step: the mean loss over all supervised tokens of the step's samples."""
        import torch

        model: Any = self.loaded.model
        model.train()
        model.model.vision_tower.train(tower_learns(model))
        share = schedule.rate_share(state.done)
        set_rates(state.optimizer, share)
        samples = [index for row in rows for index in row]
        self._require_pictures(state, samples)
        learned = int(self.examples.supervised[samples].sum())
        total, tokens = 0.0, 0
        for row in rows:
            packed = lay_row(self.examples, row, share=self.recipe.share_pictures).to(self.loaded.device)
            seen = self._see(state, packed.pictures, samples) if packed.pictures else None
            with accelerator.autocast():
                loss = row_loss(model, packed, seen) / learned
            if loss.requires_grad:  # not where the projector alone learns and the row has no picture
                accelerator.backward(loss)
            total += float(loss.detach())
            tokens += packed.input_ids.shape[1]
        if not math.isfinite(total):
            ids = self.examples.example_ids(samples[:IDS_NAMED])
            raise TrainingError(
                f"the loss of step {state.done + 1} is {total}; its samples are {', '.join(ids)}"
                + (f" and {len(samples) - IDS_NAMED} more" if len(samples) > IDS_NAMED else ""),
                hint="A lower --lr or --precision fp32 usually helps; the last checkpoint is kept.",
            )
        norm = torch.nn.utils.clip_grad_norm_(state.parameters.values(), self.recipe.max_grad_norm)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        return {
            "step": state.done + 1,
            "epoch": round((state.done + 1) / schedule.per_epoch, 4),
            "loss": total,
            "learning_rate": share * self.recipe.learning_rate,
            "grad_norm": float(norm),
            "tokens": tokens,
            "supervised_tokens": learned,
            "rows": len(rows),
        }

    def _require_pictures(self, state: _State, samples: list[int]) -> None:
        """See that a step's pictures are what they were when training began; where not, save before the fault goes."""
        try:
            self.examples.require_pictures(samples)
        except DataError:
            self._save(state)
            raise

    def _see(self, state: _State, pictures: tuple[Path, ...], samples: list[int]) -> torch.Tensor:
        try:
            return self.features.of(pictures)
        except PictureError:  # gone since the step began
            self._require_pictures(state, samples)
            raise

    def _save(self, state: _State) -> None:
        import torch

        checkpoint = Checkpoint(state.done, state.parameters, state.optimizer.state_dict(), torch.get_rng_state())
        save_checkpoint(self.out, checkpoint, identity=self.identity, keep=self.recipe.keep)

    def _record(self, figures: dict[str, Any]) -> None:
        with (self.out / METRICS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json_line(figures))

    def _cut_metrics(self, done: int) -> None:
        """Drop the metrics of steps that will be run again, and a torn last line."""
        path = self.out / METRICS_FILE
        if not path.is_file():
            return
        with atomic_write(path) as stream:
            stream.writelines(json_line(figures) for figures in read_metrics(path) if figures["step"] <= done)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The steps recorded in a metrics.jsonl; a torn last line is left out."""
    steps = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            steps.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return steps
