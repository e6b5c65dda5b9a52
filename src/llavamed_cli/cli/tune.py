"""`llavamed tune`: stage 2, projector and language model learn from conversations about pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llavamed_cli.cli import training_options as training
from llavamed_cli.cli.options import Debug, Device, Images, Json, Quiet, Seed
from llavamed_cli.cli.terminal import Terminal

if TYPE_CHECKING:
    from llavamed_cli.model.load import LoadedModel

EXAMPLES = """
Examples:

llavamed tune data --model aligned --out tuned

llavamed tune data --model aligned --out tuned --lora-rank 64 --lr 2e-4

llavamed tune data --model aligned --show-sample
"""


def tune(
    data: training.Data,
    model: Annotated[str, typer.Option(help="The model to start from: a folder or hub name.", show_default=False)],
    out: training.OutOrNone = None,
    images: Images = None,
    recipe: training.RecipeName = "llava-med-tune",
    train: Annotated[
        str | None,
        typer.Option(help="What learns: projector, lm, or both with a comma.", rich_help_panel=training.HOW),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            help="Learn low-rank additions of this rank; 0 learns the weights themselves.", rich_help_panel=training.HOW
        ),
    ] = None,
    quantise: Annotated[
        str | None,
        typer.Option(
            help="Hold the frozen language model in 4bit or 8bit beside LoRA (QLoRA); none.",
            rich_help_panel=training.HOW,
            show_default=False,
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(help="adamw or adamw8bit.", rich_help_panel=training.HOW, show_default=False),
    ] = None,
    merge: Annotated[
        bool | None,
        typer.Option(
            "--merge/--no-merge",
            help="Fold LoRA into the weights at the end; it is kept alone as well.",
            rich_help_panel=training.HOW,
            show_default=False,
        ),
    ] = None,
    batch_size: training.BatchSize = None,
    max_tokens: training.MaxTokens = None,
    epochs: training.Epochs = None,
    steps: training.Steps = None,
    lr: training.LearningRate = None,
    precision: training.Precision = "auto",
    share_pictures: training.SharePictures = None,
    cache_features: training.CacheFeatures = None,
    save_every: training.SaveEvery = None,
    keep: training.Keep = None,
    plan: training.PlanOnly = False,
    show_sample: training.ShowSample = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Stage 2: instruction tuning of projector and language model, whole or by LoRA.

    Reads a build-data folder's instruct.jsonl and writes a plain Hugging Face LLaVA folder, LoRA merged in. It may be
    repeated: first on instructions, then on one benchmark's training questions.
    """
    from llavamed_cli.training.recipe import load_recipe

    overrides = {
        "train": [part.strip() for part in train.split(",")] if train else None,
        "lora_rank": lora_rank,
        "quantise": quantise,
        "optimizer": optimizer,
        "merge": merge,
        "batch_size": batch_size,
        "max_tokens": max_tokens,
        "epochs": epochs,
        "steps": steps,
        "learning_rate": lr,
        "share_pictures": share_pictures,
        "cache_features": cache_features,
        "save_every": save_every,
        "keep": keep,
    }

    chosen = load_recipe(recipe, overrides)
    terminal = Terminal(as_json=as_json, quiet=quiet)

    def open_model() -> LoadedModel:
        from llavamed_cli.model.load import load_model

        return load_model(
            model, device=device, precision=precision, for_training=True, quantise=chosen.quantise, progress=terminal
        )

    request = training.StageRequest(
        command="tune",
        data=data,
        stage_file="instruct.jsonl",
        images=images,
        out=out,
        recipe=chosen,
        open_model=open_model,
        options={"precision": precision},
        inputs={"model": training.input_of(model)},
        seed=seed,
        plan=plan,
        show_sample=show_sample,
    )
    training.run_stage(request, terminal)
