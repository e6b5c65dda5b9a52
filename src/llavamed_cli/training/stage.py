"""A training stage from start to end: model, data, parts, loop, folder; align and tune differ in what they name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import TrainingError
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.precision import torch_dtype
from llavamed_cli.model.save import save_model
from llavamed_cli.progress import Progress
from llavamed_cli.run_record import Run
from llavamed_cli.training.loop import METRICS_FILE, Training, read_metrics
from llavamed_cli.training.parts import merge_parts, prepare_parts
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.record import draw_loss_curve, write_model_card
from llavamed_cli.training.samples import DataFile, ExampleSet, read_examples

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Prepared:
    """A stage ready to train: the model with its parts chosen, and the examples."""

    loaded: LoadedModel
    examples: ExampleSet = field(repr=False)


def prepare_stage(
    open_model: Callable[[], LoadedModel],
    files: Sequence[DataFile],
    recipe: Recipe,
    *,
    seed: int,
    progress: Progress,
) -> Prepared:
    """Open the model, read the data, choose what learns.

    Raises:
        ModelError, DataError, UsageError: as their readers say. TrainingError: no sample can be used.
    """
    loaded = open_model()
    model: Any = loaded.model
    found = read_examples(
        files,
        loaded.chat,
        image_length=loaded.image_length,
        context=model.config.text_config.max_position_embeddings,
        progress=progress,
    )
    if not found.examples:
        reasons = "".join(f"\n    {fault}" for fault in found.faults[:10])
        raise TrainingError(f"no sample can be used{':' if reasons else ''}{reasons}", where=str(files[0].path))
    prepare_parts(loaded.model, recipe, seed)
    return Prepared(loaded, found)


def train_stage(prepared: Prepared, recipe: Recipe, run: Run, *, seed: int, progress: Progress) -> Mapping[str, Any]:
    """Train, save the model at `run.out`, draw the curve, write the card, mark the run finished; return the results."""
    loaded = prepared.loaded
    for name, choice in loaded.choices.items():
        run.choose(name, choice.value, choice.reason)
    training = Training(
        loaded=loaded,
        examples=prepared.examples.examples,
        recipe=recipe,
        seed=seed,
        out=run.out,
        identity=_identity(run),
    )
    schedule = training.run(progress)
    if recipe.lora_rank:
        merge_parts(loaded.model)
    progress.note(f"writing {run.out}")
    model: Any = loaded.model
    model.to(torch_dtype(loaded.choices["precision"].value))  # what learned was held in fp32
    save_model(loaded.model, loaded.processor, run.out)
    steps = read_metrics(run.out / METRICS_FILE)
    draw_loss_curve(steps, run.out / "loss.svg")
    write_model_card(run.out, run.record, steps)
    run.finish(
        steps=schedule.total,
        first_loss=steps[0]["loss"],
        last_loss=steps[-1]["loss"],
        samples=len(prepared.examples.examples),
        set_aside=len(prepared.examples.faults),
        tokens=sum(step["tokens"] for step in steps),
    )
    return run.results


def _identity(run: Run) -> str:
    """A hash of what the run is, independent of where its files lie."""
    record = run.record
    inputs = {name: value.get("sha256", value.get("name")) for name, value in record["inputs"].items()}
    text = json.dumps([record["command"], record["options"], record["seed"], inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
