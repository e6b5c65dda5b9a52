"""The training loop: step by step through the planned rows, able to stop after any step and go on as if it had not.

Everything a step depends on is a function of its number, the seed and the checkpoint: order and packing
(`packing.plan_epoch`), learning rate, and the random state. So a run that was stopped and repeated ends with the same
weights, bit for bit on one CPU process.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import TrainingError
from llavamed_cli.files import atomic_write, json_line
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.progress import Progress
from llavamed_cli.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from llavamed_cli.training.features import FrozenFeatures
from llavamed_cli.training.packing import PackedRow, Row, collate, plan_epoch, supervised_tokens
from llavamed_cli.training.parts import trained_parameters
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.samples import Example
from llavamed_cli.training.step import row_loss

if TYPE_CHECKING:
    import torch

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Schedule:
    """How many steps there are, and the learning rate of each."""

    total: int
    per_epoch: int
    peak: float
    warmup: int

    @classmethod
    def of(cls, recipe: Recipe, examples: int) -> Schedule:
        """The schedule of a recipe over that many examples."""
        per_epoch = math.ceil(examples / recipe.batch_size)
        total = recipe.steps or per_epoch * recipe.epochs
        return cls(total=total, per_epoch=per_epoch, peak=recipe.learning_rate, warmup=math.ceil(total * recipe.warmup))

    def learning_rate(self, step: int) -> float:
        """The rate of step `step` (from 0): a linear warm-up, then half a cosine down to 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.total - self.warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * share))


@dataclass
class _State:
    """The loop's moving parts."""

    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    done: int = 0


@dataclass(frozen=True, kw_only=True)
class Training:
    """One stage to train: a model with its parts prepared, examples, and the recipe.

    identity: a hash of model, recipe and data, so that checkpoints of another run are refused.
    """

    loaded: LoadedModel
    examples: Sequence[Example] = field(repr=False)
    recipe: Recipe
    seed: int
    out: Path
    identity: str

    def run(self, progress: Progress) -> Schedule:
        """Train to the end, from the last checkpoint where there is one.

        Raises:
            TrainingError: a loss that is not a number, or a checkpoint that cannot be used.
            KeyboardInterrupt: stopped by Ctrl-C or SIGTERM, after the step under way was saved.
        """
        schedule = Schedule.of(self.recipe, len(self.examples))
        state = self._start(progress)
        features = FrozenFeatures(self.loaded)
        accelerator = self._accelerator()
        with _stop_requests() as stop, progress.bar("training", schedule.total, state.done) as bar:
            for rows in self._steps(state.done, schedule):
                began = time.perf_counter()
                figures = self._step(accelerator, state, schedule, rows, features)
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
        optimizer = torch.optim.AdamW(
            parameters.values(),
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            fused=self.loaded.device in ("cpu", "cuda"),
        )
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

    def _steps(self, done: int, schedule: Schedule) -> Iterator[list[Row]]:
        lengths = [len(example.input_ids) for example in self.examples]
        for step in range(done, schedule.total):
            epoch, place = divmod(step, schedule.per_epoch)
            if place == 0 or step == done:
                plan = plan_epoch(
                    lengths,
                    batch_size=self.recipe.batch_size,
                    max_tokens=self.recipe.max_tokens,
                    seed=self.seed,
                    epoch=epoch,
                )
            yield plan[place]

    def _step(
        self, accelerator: Any, state: _State, schedule: Schedule, rows: list[Row], features: FrozenFeatures
    ) -> dict[str, Any]:
        """One optimiser step: the mean loss over all supervised tokens of the step's samples."""
        import torch

        model: Any = self.loaded.model
        model.train()
        model.model.vision_tower.eval()
        rate = schedule.learning_rate(state.done)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        learned = sum(supervised_tokens(self.examples[index]) for row in rows for index in row)
        total, tokens = 0.0, 0
        for row in rows:
            packed = self._on_device(collate([self.examples[index] for index in row]))
            seen = features.of(packed.pictures) if packed.pictures else None
            with accelerator.autocast():
                loss = row_loss(model, packed, seen) / learned
            if loss.requires_grad:  # not where the projector alone learns and the row has no picture
                accelerator.backward(loss)
            total += float(loss.detach())
            tokens += packed.input_ids.shape[1]
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss of step {state.done + 1} is {total}",
                hint="A lower --lr or --precision fp32 usually helps; the last checkpoint is kept.",
            )
        norm = torch.nn.utils.clip_grad_norm_(state.parameters.values(), self.recipe.max_grad_norm)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        return {
            "step": state.done + 1,
            "epoch": round((state.done + 1) / schedule.per_epoch, 4),
            "loss": total,
            "learning_rate": rate,
            "grad_norm": float(norm),
            "tokens": tokens,
            "supervised_tokens": learned,
            "rows": len(rows),
        }

    def _on_device(self, row: PackedRow) -> PackedRow:
        device = self.loaded.device
        return PackedRow(
            input_ids=row.input_ids.to(device),
            position_ids=row.position_ids.to(device),
            predictors=row.predictors.to(device),
            targets=row.targets.to(device),
            pictures=row.pictures,
        )

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


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a request that is met between two steps; a second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in previous:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
