"""`llavamed eval`: how well questions about pictures are answered, and how much of that needs the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from llavamed_cli.cli.options import GENERAL, Debug, Device, Images, Json, Out, Quiet, Seed
from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.records import Fault

WHAT, ANSWERING, SERVERS = "What is asked", "How it is answered", "Servers"

EXAMPLES = """
Examples:

llavamed eval tuned blind:tuned majority --on "vqa-rad:VQA_RAD Dataset Public.json" --images images --out report

llavamed eval tuned blind:tuned --on phantoms:200 --out report

llavamed eval tuned openai:gpt-4o --on slake-en:Slake1.0 --budget 5 --out report

llavamed eval answers:theirs.jsonl majority --on questions.jsonl --train training.jsonl --out report
"""


def evaluate(
    who: Annotated[
        list[str],
        typer.Argument(
            help=(
                "A model folder or hub name; openai:MODEL; blind:WHO (the same without the picture); clip:FOLDER; "
                "cascade:FILE.toml; nearest; majority; answers:FILE. Several make one table, paired."
            ),
            metavar="WHO",
            show_default=False,
        ),
    ],
    on: Annotated[
        list[str],
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
    ],
    out: Out,
    images: Images = None,
    train: Annotated[
        Path | None,
        typer.Option(
            help="Training questions, for majority, nearest and clip, where the benchmark's file has none.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Ask only the first N questions of each.", min=1, rich_help_panel=WHAT, show_default=False),
    ] = None,
    missing: Annotated[
        Literal["error", "skip"],
        typer.Option(
            help="Where a question cannot be asked: refuse, or leave it out. An absent answer: refuse, or a wrong one.",
            rich_help_panel=WHAT,
        ),
    ] = "error",
    max_new_tokens: Annotated[
        int, typer.Option(help="An answer's greatest length.", min=1, rich_help_panel=ANSWERING)
    ] = 64,
    batch_size: Annotated[int, typer.Option(help="Questions answered at once.", min=1, rich_help_panel=ANSWERING)] = 16,
    base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible server; plain names are its models.", rich_help_panel=SERVERS),
    ] = None,
    budget: Annotated[float | None, typer.Option(help="US dollars, never passed.", rich_help_panel=SERVERS)] = None,
    price: Annotated[
        str | None,
        typer.Option(metavar="READ,WRITTEN", help="US dollars per million tokens.", rich_help_panel=SERVERS),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.", min=1, rich_help_panel=SERVERS)] = 16,
    yes: Annotated[
        bool, typer.Option("--yes", help="Pictures may leave this machine.", rich_help_panel=SERVERS)
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print tables for a paper.", rich_help_panel=GENERAL)
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer a benchmark's questions, and score the answers in two ways, with intervals.

    Writes answers.jsonl, scores.json and report.html. The same command repeated goes on where it stopped.
    """
    from llavamed_cli.endpoint.prices import parse_price
    from llavamed_cli.evaluation.markdown import markdown_tables
    from llavamed_cli.evaluation.plan import EvalPlan, ServerOptions, name_answerers, name_benchmarks
    from llavamed_cli.evaluation.runner import run_evaluation
    from llavamed_cli.evaluation.table import score_table

    terminal = Terminal(as_json=as_json, quiet=quiet)
    plan = EvalPlan(
        whos=name_answerers(who, served=base_url is not None),
        benchmarks=name_benchmarks(on),
        out=out,
        images=images,
        train=train,
        limit=limit,
        missing=missing,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        device=device,
        seed=seed,
        server=ServerOptions(
            base_url=base_url, budget=budget, price=parse_price(price), concurrency=concurrency, yes=yes
        ),
    )
    terminal.quiet_libraries()
    scores = run_evaluation(plan, terminal)
    for read in scores["benchmarks"].values():
        terminal.faults([Fault(**fault) for fault in read["left_out"]], kept=read["n"])
    terminal.result(markdown_tables(scores) if markdown else score_table(scores), scores)
    terminal.note(f"The report is {out / 'report.html'}")
