"""The options of eval's judge, and `--reviews`, which scores stored reviews and does nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.errors import UsageError

if TYPE_CHECKING:
    from llavamed_cli.evaluation.judge.options import JudgeOptions

JUDGE = "A judge of open answers"

Judge = Annotated[
    str | None,
    typer.Option(
        help="A model (openai:MODEL) that rates each open answer against the reference and the others', both orders.",
        metavar="MODEL",
        rich_help_panel=JUDGE,
        show_default=False,
    ),
]
JudgeBaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Its OpenAI-compatible server.", metavar="URL", rich_help_panel=JUDGE, show_default="OPENAI_BASE_URL"
    ),
]
JudgeBudget = Annotated[
    float | None,
    typer.Option(help="US dollars for it, never passed.", metavar="USD", rich_help_panel=JUDGE, show_default=False),
]
JudgePrice = Annotated[
    str | None,
    typer.Option(
        help="US dollars per million tokens.", metavar="READ,WRITTEN", rich_help_panel=JUDGE, show_default=False
    ),
]
Reviews = Annotated[
    Path | None,
    typer.Option(
        help="Score a file of reviews again, ours or LLaVA-Med's, without a server; alone, without WHO.",
        metavar="FILE",
        rich_help_panel=JUDGE,
        show_default=False,
    ),
]


def judge_options(
    model: str | None, base_url: str | None, budget: float | None, price: str | None, concurrency: int
) -> JudgeOptions | None:
    """The judge as typed; None without one. Raises UsageError."""
    from llavamed_cli.endpoint.prices import parse_price
    from llavamed_cli.evaluation.judge.options import JudgeOptions, name_judge

    if model is None:
        for option, value in (("base-url", base_url), ("budget", budget), ("price", price)):
            if value is not None:
                raise UsageError(f"--judge-{option} is for a judge, and none is named", hint="Add --judge MODEL.")
        return None
    return JudgeOptions(
        name=name_judge(model),
        base_url=base_url,
        budget=budget,
        price=parse_price(price, "--judge-price"),
        concurrency=concurrency,
    )


def rescore_reviews(file: Path, seed: int, terminal: Terminal) -> None:
    """Print what a file of reviews comes to."""
    from llavamed_cli.evaluation.judge.rescore import rescore

    again = rescore(file, seed)
    terminal.faults(again.faults, again.kept)
    terminal.result(again.text, again.scores)
