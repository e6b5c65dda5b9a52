"""`llavamed align`: stage 1, a projector learns to put pictures into a language model's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.cli.training_options import Data, TrainingOptions, with_training_options
from llavamed_cli.cli.training_stage import StageRequest, input_of, run_stage
from llavamed_cli.errors import UsageError
from llavamed_cli.model.chat_templates import BUILTIN_TEMPLATES

if TYPE_CHECKING:
    from llavamed_cli.model.load import LoadedModel

PARTS = "The parts"

EXAMPLES = """
Examples:

llavamed align data --language-model lmsys/vicuna-7b-v1.5 --vision-tower facebook/dinov2-large --out aligned

llavamed align data --language-model model.gguf --vision-tower openai/clip-vit-large-patch14-336 --out aligned --plan

llavamed align data --language-model tiny --vision-tower tiny --out aligned --steps 20
"""


@with_training_options(recipe="llava-med-align")
def align(
    data: Data,
    language_model: Annotated[
        str,
        typer.Option(help="A folder, hub name or .gguf file, or `tiny`.", rich_help_panel=PARTS, show_default=False),
    ],
    vision_tower: Annotated[
        str,
        typer.Option(
            help="Folder or hub name of a CLIP (PubMedCLIP), BiomedCLIP, SigLIP, DINOv2 or ViT, or `tiny`.",
            rich_help_panel=PARTS,
            show_default=False,
        ),
    ],
    options: TrainingOptions,
    image_size: Annotated[
        int | None,
        typer.Option(help="Pixels a side, for towers that take any (DINOv2).", rich_help_panel=PARTS),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            help=f"Chat template instead of the tokenizer's own: {', '.join(BUILTIN_TEMPLATES)}.",
            rich_help_panel=PARTS,
        ),
    ] = None,
) -> None:
    """Stage 1: join a language model and a vision tower, and train the projector between them.

    Reads a build-data folder's align.jsonl and writes a plain Hugging Face LLaVA folder. Only the projector learns,
    unless --train names more.
    """
    from llavamed_cli.training.recipe import load_recipe
    from llavamed_cli.world import is_lead

    recipe = load_recipe(options.recipe, options.overrides())
    if recipe.lora_rank or recipe.quantise != "none":
        raise UsageError(
            "low-rank additions and quantised weights are for tune; align joins whole parts", where="--recipe"
        )

    def open_model() -> LoadedModel:
        from llavamed_cli.model.assemble import assemble_on

        return assemble_on(
            language_model,
            vision_tower,
            device=options.device,
            precision=options.precision,
            seed=options.seed,
            image_size=image_size,
            template=template,
        )

    request = StageRequest(
        command="align",
        data=data,
        stage_file="align.jsonl",
        options=options,
        recipe=recipe,
        open_model=open_model,
        shaping={"image_size": image_size, "template": template, "precision": options.precision},
        inputs={"language model": input_of(language_model), "vision tower": input_of(vision_tower)},
    )
    run_stage(request, Terminal(as_json=options.as_json, quiet=options.quiet, silent=not is_lead()))
