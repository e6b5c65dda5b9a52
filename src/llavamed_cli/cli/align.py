"""`llavamed align`: stage 1, a projector learns to put pictures into a language model's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llavamed_cli.cli import training_options as training
from llavamed_cli.cli.options import Debug, Device, Images, Json, Quiet, Seed
from llavamed_cli.cli.terminal import Terminal
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


def align(
    data: training.Data,
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
    out: training.OutOrNone = None,
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
    images: Images = None,
    recipe: training.RecipeName = "llava-med-align",
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
    """Stage 1: join a language model and a vision tower, and train the projector between them.

    Reads a build-data folder's align.jsonl and writes a plain Hugging Face LLaVA folder. Only the projector learns.
    """
    from llavamed_cli.training.recipe import load_recipe

    overrides = {
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

    def open_model() -> LoadedModel:
        from llavamed_cli.model.assemble import assemble_on

        return assemble_on(
            language_model,
            vision_tower,
            device=device,
            precision=precision,
            seed=seed,
            image_size=image_size,
            template=template,
        )

    request = training.StageRequest(
        command="align",
        data=data,
        stage_file="align.jsonl",
        images=images,
        out=out,
        recipe=load_recipe(recipe, overrides),
        open_model=open_model,
        options={"image_size": image_size, "template": template, "precision": precision},
        inputs={
            "language model": training.input_of(language_model),
            "vision tower": training.input_of(vision_tower),
        },
        seed=seed,
        plan=plan,
        show_sample=show_sample,
    )
    training.run_stage(request, Terminal(as_json=as_json, quiet=quiet))
