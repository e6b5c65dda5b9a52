"""A training stage from start to end: model, data, parts, loop, folder; align and tune differ in what they name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import TrainingError, first_line
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.precision import torch_dtype
from llavamed_cli.model.save import save_model
from llavamed_cli.model.segment_attention import choose_segments
from llavamed_cli.progress import Progress
from llavamed_cli.run_record import Run
from llavamed_cli.training.adapters import save_adapters
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.feature_choice import open_features
from llavamed_cli.training.loop import Trained, Training
from llavamed_cli.training.metrics import METRICS_FILE, Tracker, read_metrics
from llavamed_cli.training.optimizer import need_optimizer
from llavamed_cli.training.parts import merge_parts, prepare_parts
from llavamed_cli.training.recipe import SPEED_ALONE, Recipe
from llavamed_cli.training.record import draw_loss_curve, write_model_card
from llavamed_cli.training.samples import DataFile, read_examples
from llavamed_cli.world import ALONE, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llavamed_cli.training.validation import ValidationSet

ADAPTER = "adapter"
"""Where low-rank additions lie alone, beside the model they are folded into."""


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
    world: World = ALONE,
) -> Prepared:
    """Open the model, read the data, choose what learns.

    Raises:
        ModelError, DataError, UsageError: as their readers say. TrainingError: no sample can be used, or processes
            found different data.
    """
    need_optimizer(recipe)
    loaded = open_model()
    model: Any = loaded.model
    with world.in_turn():
        found = read_examples(
            files,
            loaded.chat,
            image_length=loaded.image_length,
            context=model.config.text_config.max_position_embeddings,
            progress=progress,
        )
    if not found:
        reasons = "".join(f"\n    {fault}" for fault in found.faults[:10])
        raise TrainingError(f"no sample can be used{':' if reasons else ''}{reasons}", where=str(files[0].path))
    if world.size > 1:
        _require_same_data(world, found)
    prepare_parts(loaded.model, recipe, seed)
    return Prepared(loaded, found)


def _require_same_data(world: World, found: ExampleSet) -> None:
    told = world.exchange((found.identity, len(found)))
    other = next((number for number, one in enumerate(told) if one != told[0]), None)
    if other is not None:
        raise TrainingError(
            f"process {other} reads other data than process 0: {told[other][1]:,} samples and {told[0][1]:,}",
            hint="Every machine needs the same files and pictures, best on storage that all share.",
        )


def train_stage(
    prepared: Prepared,
    recipe: Recipe,
    run: Run,
    *,
    seed: int,
    progress: Progress,
    validation: ValidationSet | None = None,
    tracker: str | None = None,
    world: World = ALONE,
) -> Mapping[str, Any]:
    """Train, save the model at `run.out`, draw the curve, write the card, mark the run finished; return the results.

    Args:
        validation: samples to judge the model by on the way; the best step's weights are then the ones saved.
        tracker: the name of a tracker that accelerate knows.
        world: the processes that train together; the first of them writes.
    """
    loaded, examples = prepared.loaded, prepared.examples
    features, cached = open_features(loaded, recipe, examples, progress=progress)
    told: Tracker | None = None
    if world.leads:
        examples.write_faults(run.out / "rejected.jsonl")
        packed = choose_segments(loaded.device, loaded.choices["precision"].value)
        for name, choice in {**loaded.choices, "packed attention": packed, "feature cache": cached}.items():
            run.choose(name, choice.value, choice.reason)
        told = Tracker(tracker, run.out, run.record["options"]) if tracker is not None else None
    training = Training(
        loaded=loaded,
        examples=examples,
        features=features,
        recipe=recipe,
        seed=seed,
        out=run.out,
        identity=_identity(run, examples),
        world=world,
        validation=validation,
        tracker=told,
    )
    trained = training.run(progress)
    if world.leads:
        progress.note(f"writing {run.out}")
        _write_model(loaded, recipe, run)
        _finish(run, examples, trained)
    if told is not None:
        told.close()
    return world.from_lead(lambda: run.results)


def _write_model(loaded: LoadedModel, recipe: Recipe, run: Run) -> None:
    """Write the adapter and the model; raises TrainingError where the disk has no room for them."""
    from safetensors import SafetensorError

    try:
        _write_parts(loaded, recipe, run)
    except (OSError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise TrainingError(
            f"the model cannot be written: {why}",
            where=str(run.out),
            hint="Make room on the disk; the same command goes on from the last checkpoint.",
        ) from error


def _write_parts(loaded: LoadedModel, recipe: Recipe, run: Run) -> None:
    if recipe.lora_rank:
        save_adapters(loaded.model, run.out / ADAPTER, base=_base(run), quantise=recipe.quantise)
    if recipe.merge or not recipe.lora_rank:
        merge_parts(loaded.model)
        model: Any = loaded.model
        model.to(torch_dtype(loaded.choices["precision"].value))  # what learned was held in fp32
        save_model(loaded.model, loaded.processor, run.out)


def _finish(run: Run, examples: ExampleSet, trained: Trained) -> None:
    steps = read_metrics(run.out / METRICS_FILE)
    draw_loss_curve(steps, run.out / "loss.svg")
    write_model_card(run.out, run.record, steps)
    results = {
        "steps": trained.steps,
        "first_loss": steps[0]["loss"],
        "last_loss": steps[-1]["loss"],
        "samples": len(examples),
        "set_aside": examples.set_aside,
        "tokens": sum(step["tokens"] for step in steps),
    }
    if trained.judged.last:
        results |= {"best_step": trained.judged.best_step, "validation_loss": trained.judged.best_loss}
    run.finish(**results)


def _base(run: Run) -> str:
    """The model that was tuned, as it was named."""
    named = run.record["inputs"]["model"]
    return str(named.get("path", named.get("name")))


def _identity(run: Run, examples: ExampleSet) -> str:
    """A hash of what the run learns, its pictures' content too, independent of where its files lie and of how fast."""
    record = run.record
    options = {name: value for name, value in record["options"].items() if name not in SPEED_ALONE}
    inputs = {name: value.get("sha256", value.get("name")) for name, value in record["inputs"].items()}
    told = [record["command"], options, record["seed"], inputs, examples.identity]
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
