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
from llavamed_cli.model.segment_attention import choose_segments
from llavamed_cli.progress import Progress
from llavamed_cli.run_record import Run
from llavamed_cli.training.adapters import save_adapters
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.feature_choice import open_features
from llavamed_cli.training.loop import METRICS_FILE, Training, read_metrics
from llavamed_cli.training.optimizer import need_optimizer
from llavamed_cli.training.parts import merge_parts, prepare_parts
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.record import draw_loss_curve, write_model_card
from llavamed_cli.training.samples import DataFile, read_examples

if TYPE_CHECKING:
    from collections.abc import Mapping

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
) -> Prepared:
    """Open the model, read the data, choose what learns.

    Raises:
        ModelError, DataError, UsageError: as their readers say. TrainingError: no sample can be used.
    """
    need_optimizer(recipe)
    loaded = open_model()
    model: Any = loaded.model
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
    prepare_parts(loaded.model, recipe, seed)
    return Prepared(loaded, found)


def train_stage(prepared: Prepared, recipe: Recipe, run: Run, *, seed: int, progress: Progress) -> Mapping[str, Any]:
    """Train, save the model at `run.out`, draw the curve, write the card, mark the run finished; return the results."""
    loaded = prepared.loaded
    examples = prepared.examples
    examples.write_faults(run.out / "rejected.jsonl")
    features, cached = open_features(loaded, recipe, examples, progress=progress)
    packed = choose_segments(loaded.device, loaded.choices["precision"].value)
    for name, choice in {**loaded.choices, "packed attention": packed, "feature cache": cached}.items():
        run.choose(name, choice.value, choice.reason)
    training = Training(
        loaded=loaded,
        examples=examples,
        features=features,
        recipe=recipe,
        seed=seed,
        out=run.out,
        identity=_identity(run, examples),
    )
    schedule = training.run(progress)
    progress.note(f"writing {run.out}")
    if recipe.lora_rank:
        save_adapters(loaded.model, run.out / ADAPTER, base=_base(run), quantise=recipe.quantise)
    if recipe.merge or not recipe.lora_rank:
        merge_parts(loaded.model)
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
        samples=len(examples),
        set_aside=examples.set_aside,
        tokens=sum(step["tokens"] for step in steps),
    )
    return run.results


def _base(run: Run) -> str:
    """The model that was tuned, as it was named."""
    named = run.record["inputs"]["model"]
    return str(named.get("path", named.get("name")))


def _identity(run: Run, examples: ExampleSet) -> str:
    """A hash of what the run is, its pictures' content too, independent of where its files lie."""
    record = run.record
    inputs = {name: value.get("sha256", value.get("name")) for name, value in record["inputs"].items()}
    told = [record["command"], record["options"], record["seed"], inputs, examples.identity]
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
