"""The options of `llavamed eval`, in the panels of its help; a judge's are in judge_options.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from llavamed_cli.cli.options import GENERAL

WHAT, ANSWERING, SERVERS = "What is asked", "How it is answered", "Servers that answer"

Whos = Annotated[
    list[str] | None,
    typer.Argument(
        help=(
            "A model folder or hub name; openai:MODEL, or with --base-url the name of a server's model; blind:WHO (the "
            "same without the picture); clip:FOLDER; cascade:FILE.toml; nearest (the nearest training picture's "
            "answer); majority; answers:FILE. Several make one table, paired."
        ),
        metavar="WHO",
        show_default=False,
    ),
]
On = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "vqa-rad:FILE.json, slake:DIR (slake-en:, slake-zh:), path-vqa:DIR, llava-med-vqa:DIR, "
            "llava-med-chat:FILE (for a judge), FILE.jsonl, FILE.parquet, hub:OWNER/NAME, or phantoms:N. "
            "May be repeated."
        ),
        metavar="NAME:PATH",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
OutFolder = Annotated[
    Path | None, typer.Option("--out", help="The folder to write; it is itself the result.", show_default=False)
]
Train = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Training questions, for majority, nearest and clip, where the benchmark's file has none.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
TrainedOn = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DATA",
        help="A build-data folder, or one of pictures, that a model learned from: which of the benchmark's are in it? "
        "May be repeated.",
        rich_help_panel=WHAT,
        show_default=False,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Ask only the first N questions of each.", min=1, rich_help_panel=WHAT, show_default=False
    ),
]
Missing = Annotated[
    Literal["error", "skip"],
    typer.Option(
        help="Questions that cannot be asked: refuse, or leave out. Answers that a FILE lacks: refuse, or call wrong.",
        rich_help_panel=WHAT,
    ),
]
MaxNewTokens = Annotated[
    int, typer.Option(metavar="N", help="An answer's greatest length.", min=1, rich_help_panel=ANSWERING)
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Questions that a local model answers at once: 32 unless told, fewer where memory is short.",
        min=1,
        rich_help_panel=ANSWERING,
        show_default=False,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="An OpenAI-compatible server: WHO that is no folder here is its model.",
        rich_help_panel=SERVERS,
        show_default="OpenAI's",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        metavar="USD", help="Never spend more, all WHO together.", rich_help_panel=SERVERS, show_default=False
    ),
]
Price = Annotated[
    str | None,
    typer.Option(
        metavar="IN,OUT", help="USD per million tokens read, written.", rich_help_panel=SERVERS, show_default=False
    ),
]
Concurrency = Annotated[int, typer.Option(metavar="N", help="Requests in flight.", min=1, rich_help_panel=SERVERS)]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        help="Pictures, or what a cascade says of them, may leave this machine (needed once a server, in scripts).",
        rich_help_panel=SERVERS,
    ),
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print tables for a paper.", rich_help_panel=GENERAL)]
