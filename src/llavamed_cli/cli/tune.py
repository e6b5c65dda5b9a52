"""`llavamed tune`: stage 2, projector and language model learn from conversations about pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.cli.training_options import HOW, Data, TrainingOptions, with_training_options
from llavamed_cli.cli.training_stage import StageRequest, input_of, run_stage

if TYPE_CHECKING:
    from llavamed_cli.model.load import LoadedModel

EXAMPLES = """
Examples:

llavamed tune data --model aligned --out tuned

llavamed tune data --model aligned --out tuned --recipe one-gpu-24gb --max-tokens auto

llavamed tune data --model aligned --plan --hardware a100-80gb:8
"""


@with_training_options(recipe="llava-med-tune")
def tune(
    data: Data,
    model: Annotated[str, typer.Option(help="The model to start from: a folder or hub name.", show_default=False)],
    options: TrainingOptions,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            help="Learn low-rank additions of this rank; 0 learns the weights themselves.",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None,
    quantise: Annotated[
        str | None,
        typer.Option(
            help="4bit or 8bit: how the frozen language model is held beside LoRA (QLoRA); or none.",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None,
    merge: Annotated[
        bool | None,
        typer.Option(
            "--merge/--no-merge",
            help="Fold LoRA into the weights at the end; it is saved alone as well.",
            rich_help_panel=HOW,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Stage 2: instruction tuning of projector and language model, whole, by LoRA or by QLoRA.

    Reads a build-data folder's instruct.jsonl and writes a plain Hugging Face LLaVA folder, LoRA merged in. It may be
    repeated: first on instructions, then on one benchmark's training questions.
    """
    from llavamed_cli.training.recipe import load_recipe
    from llavamed_cli.world import is_lead

    own = {"lora_rank": lora_rank, "quantise": quantise, "merge": merge}
    recipe = load_recipe(options.recipe, {**options.overrides(), **own})
    terminal = Terminal(as_json=options.as_json, quiet=options.quiet, silent=not is_lead())

    def open_model() -> LoadedModel:
        from llavamed_cli.model.load import load_model
        from llavamed_cli.model.skeleton import load_skeleton

        if options.needs_no_weights:
            return load_skeleton(model, device=options.device, precision=options.precision)
        return load_model(
            model,
            device=options.device,
            precision=options.precision,
            for_training=True,
            quantise=recipe.quantise,
            progress=terminal,
        )

    request = StageRequest(
        command="tune",
        data=data,
        stage_file="instruct.jsonl",
        options=options,
        recipe=recipe,
        open_model=open_model,
        shaping={"precision": options.precision},
        inputs={"model": input_of(model)},
        announced=("precision",),
    )
    run_stage(request, terminal)
