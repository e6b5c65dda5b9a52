"""The options of `align` and `tune`, each declared once: a dataclass of them, handed to the command as one argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from llavamed_cli.cli.options import Debug, Device, Images, Json, Quiet, Seed
from llavamed_cli.errors import UsageError

HOW, COST, COURSE, LOOK = "What learns, and how", "What it costs", "As it goes", "Before it trains"


def _option(help_: str, *names: str, panel: str, **more: Any) -> Any:
    return typer.Option(*names, help=help_, rich_help_panel=panel, show_default=False, **more)


Data = Annotated[list[Path], typer.Argument(help="build-data folders, or JSON / JSONL files.", show_default=False)]
OutOrNone = Annotated[Path | None, typer.Option("--out", help="The folder to write: a model.", show_default=False)]
RecipeName = Annotated[str, typer.Option("--recipe", help="A recipe's name, or a .toml file.", rich_help_panel=HOW)]
Train = Annotated[str | None, _option("projector, lm, vision_tower, or patterns; with commas.", panel=HOW)]
Epochs = Annotated[int | None, _option("Times through the data.", panel=HOW)]
Steps = Annotated[int | None, _option("Steps in all, instead of epochs.", panel=HOW)]
BatchSize = Annotated[int | None, _option("Samples a step.", panel=HOW)]
LearningRate = Annotated[float | None, _option("The highest learning rate.", "--lr", panel=HOW)]
ProjectorRate = Annotated[float | None, _option("The projector's own, where it differs.", "--projector-lr", panel=HOW)]
Optimizer = Annotated[str | None, _option("adamw or adamw8bit.", panel=HOW)]

Precision = Annotated[str, typer.Option(help="auto, bf16, fp16 or fp32.", rich_help_panel=COST)]
MaxTokens = Annotated[
    str | None, _option("Tokens a row; auto: as many as fit. Never changes the loss.", panel=COST, metavar="N|auto")
]
Checkpointing = Annotated[
    bool | None,
    _option("Less memory, a third more time.", "--gradient-checkpointing/--no-gradient-checkpointing", panel=COST),
]
SharePictures = Annotated[
    bool | None,
    _option("Samples about one picture share its tokens.", "--share-pictures/--no-share-pictures", panel=COST),
]
CacheFeatures = Annotated[str | None, _option("What the tower sees, kept: auto, memory, disk or off.", panel=COST)]

SaveEvery = Annotated[int | None, _option("Steps between checkpoints.", panel=COURSE)]
Keep = Annotated[int | None, _option("Checkpoints kept.", panel=COURSE)]
Validate = Annotated[Path | None, _option("Samples not learned from, to measure the loss on.", panel=COURSE)]
ValidateEvery = Annotated[int | None, _option("Steps between validations.", panel=COURSE)]
Patience = Annotated[int | None, _option("Stop after so many validations without a better loss.", panel=COURSE)]
Tracker = Annotated[str | None, _option("tensorboard, wandb, or another that accelerate knows.", panel=COURSE)]

PlanOnly = Annotated[bool, typer.Option("--plan", help="Say what it would take, and stop.", rich_help_panel=LOOK)]
ShowSample = Annotated[
    bool, typer.Option("--show-sample", help="Show one sample and what of it is learned.", rich_help_panel=LOOK)
]
HardwareName = Annotated[
    str | None, _option("Plan for these cards, e.g. a100-80gb:8.", "--hardware", panel=LOOK, metavar="NAME[:COUNT]")
]
Memory = Annotated[float | None, _option("Plan for so much free memory.", panel=LOOK, metavar="GB")]
Rate = Annotated[float | None, _option("Plan for so many tokens a second.", panel=LOOK, metavar="TOKENS")]


SAME_NAME = (
    *("epochs", "steps", "batch_size", "optimizer", "gradient_checkpointing", "share_pictures", "cache_features"),
    *("save_every", "keep", "validate_every", "patience"),
)
"""Options that are called as the recipe's keys."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What both commands take; None leaves a recipe's key as it is."""

    out: OutOrNone = None
    images: Images = None
    recipe: RecipeName = ""
    train: Train = None
    epochs: Epochs = None
    steps: Steps = None
    batch_size: BatchSize = None
    lr: LearningRate = None
    projector_lr: ProjectorRate = None
    optimizer: Optimizer = None
    precision: Precision = "auto"
    max_tokens: MaxTokens = None
    gradient_checkpointing: Checkpointing = None
    share_pictures: SharePictures = None
    cache_features: CacheFeatures = None
    save_every: SaveEvery = None
    keep: Keep = None
    validate: Validate = None
    validate_every: ValidateEvery = None
    patience: Patience = None
    tracker: Tracker = None
    plan: PlanOnly = False
    show_sample: ShowSample = False
    hardware: HardwareName = None
    memory: Memory = None
    rate: Rate = None
    seed: Seed = 0
    device: Device = "auto"
    as_json: Json = False
    quiet: Quiet = False
    debug: Debug = False

    @property
    def auto_tokens(self) -> bool:
        """Whether the length of rows is to be found out."""
        return self.max_tokens == "auto"

    @property
    def needs_no_weights(self) -> bool:
        """Whether all that is asked for is a plan for a rate that need not be measured here."""
        return self.plan and (self.rate is not None or self.hardware is not None)

    def overrides(self) -> dict[str, Any]:
        """The recipe's keys that were given on the command line; the others are None.

        Raises:
            UsageError: --max-tokens is no number and not auto.
        """
        return {
            **{name: getattr(self, name) for name in SAME_NAME},
            "train": [part.strip() for part in self.train.split(",")] if self.train else None,
            "learning_rate": self.lr,
            "projector_learning_rate": self.projector_lr,
            "max_tokens": None if self.max_tokens is None or self.auto_tokens else _whole(self.max_tokens),
        }


def with_training_options(recipe: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options above: typer sees them one by one between what the command itself needs and what it
    may have, and the command gets them as `options`. recipe: the command's own, where none is named."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        shared = get_type_hints(TrainingOptions, include_extras=True)
        own = [
            parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(command).parameters.items()
            if name != "options"
        ]
        added = [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=recipe if one.name == "recipe" else one.default,
                annotation=shared[one.name],
            )
            for one in fields(TrainingOptions)
        ]

        @wraps(command)
        def called(**given: Any) -> None:
            names = {one.name for one in fields(TrainingOptions)}
            options = TrainingOptions(**{name: value for name, value in given.items() if name in names})
            command(options=options, **{name: value for name, value in given.items() if name not in names})

        wrapper: Any = called
        every = [
            *(one for one in own if one.default is one.empty),
            *added,
            *(one for one in own if one.default is not one.empty),
        ]
        wrapper.__signature__ = inspect.Signature(every)
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        return called

    return decorate


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"expected a whole number or auto, found {text!r}", where="--max-tokens") from error
