"""What `align` and `tune` share at the door: their options, the plan, the sample shown, and the result printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.errors import UsageError

if TYPE_CHECKING:
    from llavamed_cli.model.load import LoadedModel
    from llavamed_cli.training.recipe import Recipe
    from llavamed_cli.training.stage import Prepared

HOW, LOOK = "How it trains", "Before it trains"

Data = Annotated[list[Path], typer.Argument(help="build-data folders, or JSON / JSONL files.", show_default=False)]
OutOrNone = Annotated[Path | None, typer.Option("--out", help="The folder to write: a model.", show_default=False)]
RecipeName = Annotated[str, typer.Option("--recipe", help="A recipe's name, or a .toml file.", rich_help_panel=HOW)]
MaxTokens = Annotated[
    int | None, typer.Option(help="Tokens in a packed row. Sets speed and memory, not the loss.", rich_help_panel=HOW)
]
BatchSize = Annotated[int | None, typer.Option(help="Samples a step.", rich_help_panel=HOW)]
Epochs = Annotated[int | None, typer.Option(help="Times through the data.", rich_help_panel=HOW)]
Steps = Annotated[int | None, typer.Option(help="Steps in all, instead of epochs.", rich_help_panel=HOW)]
LearningRate = Annotated[float | None, typer.Option("--lr", help="The highest learning rate.", rich_help_panel=HOW)]
Precision = Annotated[str, typer.Option(help="auto, bf16, fp16 or fp32.", rich_help_panel=HOW)]
SharePictures = Annotated[
    bool | None,
    typer.Option(
        "--share-pictures/--no-share-pictures",
        help="Samples about one picture share its tokens.",
        rich_help_panel=HOW,
        show_default=False,
    ),
]
CacheFeatures = Annotated[
    str | None,
    typer.Option(help="What the tower sees, kept: auto, memory, disk or off.", rich_help_panel=HOW, show_default=False),
]
SaveEvery = Annotated[int | None, typer.Option(help="Steps between checkpoints.", rich_help_panel=HOW)]
Keep = Annotated[int | None, typer.Option(help="Checkpoints kept.", rich_help_panel=HOW)]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Say what it would take, and stop.", rich_help_panel=LOOK)]
ShowSample = Annotated[
    bool, typer.Option("--show-sample", help="Show one sample and what of it is learned.", rich_help_panel=LOOK)
]


@dataclass(frozen=True, kw_only=True)
class StageRequest:
    """What `align` or `tune` was asked to do, resolved.

    options: beyond the recipe, what shapes the result. inputs: what is read.
    """

    command: str
    data: list[Path]
    stage_file: str
    images: Path | None
    out: Path | None
    recipe: Recipe
    open_model: Callable[[], LoadedModel]
    options: Mapping[str, Any]
    inputs: Mapping[str, Path | str]
    seed: int
    plan: bool
    show_sample: bool


def input_of(where: str) -> Path | str:
    """A model named on the command line: a path where there is one, else a hub name."""
    path = Path(where).expanduser()
    return path if path.exists() else where


def run_stage(request: StageRequest, terminal: Terminal) -> None:
    """Carry a stage out: look at it (--plan, --show-sample), or train it."""
    from llavamed_cli.run_record import begin_run
    from llavamed_cli.training.data_files import find_data
    from llavamed_cli.training.stage import prepare_stage, train_stage

    if not 0 <= request.seed < 2**63:
        raise UsageError("expected 0 or more, and less than 2^63", where="--seed")
    looking = request.plan or request.show_sample
    if request.out is None and not looking:
        raise UsageError("--out is missing", hint="Name the folder to write, or look first with --plan.")
    files = find_data(request.data, request.stage_file, request.images)
    run = None
    if request.out is not None and not looking:
        inputs = {**request.inputs, **{f"data {n}": file.path for n, file in enumerate(files, start=1)}}
        options = {**request.options, **request.recipe.as_options()}
        run = begin_run(request.out, request.command, options=options, inputs=inputs, seed=request.seed)
        if run.finished:
            terminal.note(f"{request.out} is finished already; nothing to do")
            _print_result(request, run.results, terminal)
            return
    terminal.quiet_libraries()
    prepared = prepare_stage(request.open_model, files, request.recipe, seed=request.seed, progress=terminal)
    found = prepared.examples
    terminal.faults(found.faults, kept=len(found), total=found.set_aside)
    shown: dict[str, tuple[str, Any]] = {}
    if request.show_sample:
        shown["sample"] = _sample(prepared)
    if request.plan:
        shown["plan"] = _plan(request, prepared)
    if shown:
        values = {name: value for name, (_, value) in shown.items()}
        text = "\n\n".join(text for text, _ in shown.values())
        terminal.result(text, values if len(values) > 1 else next(iter(values.values())))
    if run is not None:
        for name, choice in prepared.loaded.choices.items():
            terminal.note(f"{name}: {choice.value} ({choice.reason})")
        _print_result(
            request, train_stage(prepared, request.recipe, run, seed=request.seed, progress=terminal), terminal
        )


def _print_result(request: StageRequest, results: Mapping[str, Any], terminal: Terminal) -> None:
    text = (
        f"{request.out}\n{results['steps']} steps on {results['samples']} samples ({results['set_aside']} set aside), "
        f"loss {results['first_loss']:.3f} -> {results['last_loss']:.3f}"
    )
    terminal.result(text, {"out": str(request.out), **results})


def _plan(request: StageRequest, prepared: Prepared) -> tuple[str, Any]:
    """The plan, for a person and as a value."""
    from llavamed_cli.training.estimate import plan_training

    plan = plan_training(prepared.loaded, prepared.examples, request.recipe, request.seed)
    return "\n".join(plan.lines()), asdict(plan)


def _sample(prepared: Prepared) -> tuple[str, Any]:
    """The first sample; what is learned stands in green on a terminal, and between « » everywhere."""
    from llavamed_cli.training.samples import show_sample

    loaded = prepared.loaded
    example = prepared.examples[0]
    image = loaded.chat.image_token_id
    tokenizer: Any = loaded.chat.tokenizer

    def decode(ids: list[int]) -> str:
        shown = [token for place, token in enumerate(ids) if token != image or place == 0 or ids[place - 1] != image]
        text: str = tokenizer.decode(shown, skip_special_tokens=False)
        return text.replace("<image>", f"<image> x {ids.count(image)}") if image in ids else text

    pieces = show_sample(example, decode)
    green, plain = ("\033[32m", "\033[0m") if sys.stdout.isatty() else ("", "")
    text = "".join(f"{green}«{piece}»{plain}" if learned else piece for piece, learned in pieces)
    value = {"id": example.id, "pieces": [{"text": piece, "supervised": learned} for piece, learned in pieces]}
    return f"{example.id}: what stands between « and » is learned\n{text}", value
