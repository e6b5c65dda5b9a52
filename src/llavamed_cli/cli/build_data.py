"""`llavamed build-data`: figures and question sets in, a folder of training data out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llavamed_cli.cli import build_data_options as option
from llavamed_cli.cli.options import Debug, Device, Images, Json, Out, Quiet, Seed
from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.corpus.build_options import PMC_URL
from llavamed_cli.errors import UsageError

EXAMPLES = """[bold]Examples[/bold]

llavamed build-data pmc:query:"chest radiograph" --license commercial --limit 500 --out data

llavamed build-data PMC8027102.tar.gz articles/ --panels drop --modalities CXR,CT --out data

llavamed build-data pairs.jsonl --images pictures --teacher gpt-4o-mini --budget 2 --out data

llavamed build-data vqa-rad:VQA_RAD.json --images images --out data

llavamed build-data slake:Slake1.0 --split train --exclude slake:Slake1.0 --out data

llavamed build-data phantoms:400 --out data"""

CLOUD_IN_FLIGHT, TEACHER_IN_FLIGHT = 8, 16


def build_data(
    sources: option.Sources,
    out: Out,
    images: Images = None,
    pmc_url: option.PmcUrl = PMC_URL,
    cache: option.Cache = None,
    image_column: option.ImageColumn = None,
    caption_column: option.CaptionColumn = None,
    split: option.Split = "train",
    domain: option.DomainName = "biomedical",
    license: option.License = "any",
    min_quality: option.MinQuality = 0.0,
    charts: option.ChartsOption = "drop",
    panels: option.PanelsOption = "keep",
    modalities: option.Modalities = None,
    duplicates: option.DuplicatesOption = "drop",
    exclude: option.Exclude = None,
    clip: option.Clip = None,
    min_similarity: option.MinSimilarity = None,
    limit: option.Limit = None,
    balance: option.Balance = False,
    validation: option.Validation = 0.0,
    teacher: option.Teacher = "rules",
    base_url: option.BaseUrl = None,
    batch: option.Batch = False,
    budget: option.Budget = None,
    price: option.Price = None,
    workers: option.Workers = 1,
    engine: option.EngineOption = "local",
    concurrency: option.Concurrency = None,
    dry_run: option.DryRun = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn figures with captions, or a benchmark's training questions, into data for align and tune.

    Writes align.jsonl, instruct.jsonl, images/, rejected.jsonl, report.html and run.json into --out. The same command,
    repeated, goes on where it was interrupted; nothing is fetched or paid for twice.
    """
    from llavamed_cli.corpus import build_options, pipeline
    from llavamed_cli.corpus import dry_run as rehearsal
    from llavamed_cli.endpoint.prices import parse_price

    if split != "train":
        raise UsageError(
            f"--split {split}: data to learn from are built from training questions alone",
            hint="Test questions are for `llavamed eval`.",
        )
    terminal = Terminal(as_json=as_json, quiet=quiet)
    options = build_options.BuildOptions(
        sources=tuple(sources),
        out=out,
        images=images,
        domain=domain,
        screen=build_options.ScreenOptions(
            license=license,
            min_quality=min_quality,
            charts=charts,
            panels=panels,
            modalities=_listed(modalities),
            duplicates=duplicates,
            exclude=tuple(exclude or ()),
            clip=clip,
            min_similarity=min_similarity,
        ),
        teacher=build_options.TeacherOptions(
            name=teacher,
            base_url=base_url,
            batch=batch,
            budget=budget,
            price=parse_price(price),
            concurrency=concurrency or TEACHER_IN_FLIGHT,
        ),
        cloud=build_options.CloudOptions(url=pmc_url, concurrency=concurrency or CLOUD_IN_FLIGHT, cache=cache),
        columns=(image_column, caption_column),
        limit=limit,
        balance=balance,
        validation=validation,
        workers=workers,
        engine=engine,
        device=device,
        seed=seed,
    )
    if dry_run:
        plan = rehearsal.rehearse(options, terminal)
        terminal.result(plan.text(), plan.to_json())
        return
    result = pipeline.build_data(options, terminal)
    figures = result.figures
    terminal.faults(result.faults, figures["kept"], total=figures["rejected"])
    terminal.result(_summary(out, figures), {"out": str(out), **figures})


def _listed(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _summary(out: Path, figures: dict[str, Any]) -> str:
    lines = [
        f"{out}: {figures['kept']} pictures kept, {figures['rejected']} set aside",
        f"  align.jsonl     {figures['align']} captions",
        f"  instruct.jsonl  {figures['instruct']} conversations, {figures['questions']} questions",
    ]
    if figures["held_out"]:
        lines.append(
            f"  held out        {figures['held_out']} pictures, in align.validation.jsonl and instruct.validation.jsonl"
        )
    if figures["teacher"]:
        lines.append(f"  teacher         {figures['teacher']['told']}")
    lines.extend(f"  {count:>6}  {reason}" for reason, count in figures["reasons"].items())
    lines.extend(f"  {count:>6}  turns dropped: {reason}" for reason, count in figures["dropped_turns"].items())
    lines.append(f"  see {out / 'report.html'}")
    return "\n".join(lines)
