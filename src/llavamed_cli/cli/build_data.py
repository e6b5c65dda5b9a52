"""`llavamed build-data`: figures and question sets in, a folder of training data out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llavamed_cli.cli.options import Debug, Images, Json, Out, Quiet, Seed
from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.errors import UsageError

EXAMPLES = """[bold]Examples[/bold]

llavamed build-data PMC8027102.tar.gz articles/ --out data

llavamed build-data pairs.jsonl --images pictures --min-quality 0.4 --out data

llavamed build-data vqa-rad:VQA_RAD.json --images images --out data

llavamed build-data phantoms:400 --out data"""

WRITING, SCREENING = "What is written", "What is kept"

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help=(
            "Pairs (FILE.jsonl, FILE.csv, FILE.tsv, a folder of pictures with .txt files), articles (ARTICLE.xml, "
            "PMCnnnn.tar.gz, a folder of them), vqa-rad:FILE, or phantoms:N (drawn by code, no patient)."
        ),
        show_default=False,
    ),
]
Split = Annotated[str, typer.Option(help="Which questions of a benchmark: train.", rich_help_panel=WRITING)]
DomainName = Annotated[
    str, typer.Option("--domain", metavar="NAME|FILE", help="Words and questions of a field.", rich_help_panel=WRITING)
]
Teacher = Annotated[str, typer.Option(help="Who writes conversations: rules (offline).", rich_help_panel=WRITING)]
MinQuality = Annotated[
    float, typer.Option(help="Caption quality, 0 to 1, below which a figure is set aside.", rich_help_panel=SCREENING)
]
Limit = Annotated[
    int | None, typer.Option(help="Keep at most so many pictures.", rich_help_panel=SCREENING, show_default=False)
]


def build_data(
    sources: Sources,
    out: Out,
    images: Images = None,
    split: Split = "train",
    domain: DomainName = "biomedical",
    teacher: Teacher = "rules",
    min_quality: MinQuality = 0.0,
    limit: Limit = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn figures with captions, or a benchmark's training questions, into data for align and tune.

    Writes align.jsonl, instruct.jsonl, images/, rejected.jsonl, report.html and run.json into --out.
    """
    from llavamed_cli.corpus import pipeline

    if split != "train":
        raise UsageError(
            f"--split {split}: data to learn from are built from training questions alone",
            hint="Test questions are for `llavamed eval`.",
        )
    terminal = Terminal(as_json=as_json, quiet=quiet)
    options = pipeline.BuildOptions(
        sources=tuple(sources),
        out=out,
        images=images,
        domain=domain,
        teacher=teacher,
        min_quality=min_quality,
        limit=limit,
        seed=seed,
    )
    result = pipeline.build_data(options, terminal)
    figures = result.figures
    terminal.faults(result.faults, figures["kept"], total=figures["rejected"])
    terminal.result(_summary(out, figures), {"out": str(out), **figures})


def _summary(out: Path, figures: dict[str, Any]) -> str:
    lines = [
        f"{out}: {figures['kept']} pictures kept, {figures['rejected']} set aside",
        f"  align.jsonl     {figures['align']} captions",
        f"  instruct.jsonl  {figures['instruct']} conversations, {figures['questions']} questions",
    ]
    lines.extend(f"  {count:>6}  {reason}" for reason, count in figures["reasons"].items())
    lines.append(f"  see {out / 'report.html'}")
    return "\n".join(lines)
