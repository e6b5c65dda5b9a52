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
        typer.Option(
            help="What learns: projector, language_model, or both with a comma.", rich_help_panel=training.HOW
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            help="Learn low-rank additions of this rank; 0 learns the weights themselves.", rich_help_panel=training.HOW
        ),
    ] = None,
    batch_size: training.BatchSize = None,
    max_tokens: training.MaxTokens = None,
    epochs: training.Epochs = None,
    steps: training.Steps = None,
    lr: training.LearningRate = None,
    precision: training.Precision = "auto",
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
        "batch_size": batch_size,
        "max_tokens": max_tokens,
        "epochs": epochs,
        "steps": steps,
        "learning_rate": lr,
        "save_every": save_every,
        "keep": keep,
    }

    def open_model() -> LoadedModel:
        from llavamed_cli.model.load import load_model

        return load_model(model, device=device, precision=precision, for_training=True)

    request = training.StageRequest(
        command="tune",
        data=data,
        stage_file="instruct.jsonl",
        images=images,
        out=out,
        recipe=load_recipe(recipe, overrides),
        open_model=open_model,
        options={"precision": precision},
        inputs={"model": training.input_of(model)},
        seed=seed,
        plan=plan,
        show_sample=show_sample,
    )
    training.run_stage(request, Terminal(as_json=as_json, quiet=quiet))
