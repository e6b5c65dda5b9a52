"""The options of `llavamed build-data`, in the panels of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llavamed_cli.corpus.build_options import Charts, Duplicates, EngineName, Panels

READING, SCREENING, TEACHING = "What is read", "What is kept", "Who writes conversations"
SELECTION, WORK = "What is drawn", "How the work is done"

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help=(
            "pmc:ID, pmc:FILE of ids, pmc:query:TEXT, pmc:inventory[:DATE]; articles (ARTICLE.xml, PMCnnnn.tar.gz, a "
            "folder of them); pairs (FILE.jsonl, FILE.csv, FILE.tsv, FILE.parquet, shards FILE.tar, a folder of "
            "pictures with .txt files); hub:OWNER/NAME; a benchmark's training questions (vqa-rad:FILE, slake:DIR, "
            "slake-en:DIR, slake-zh:DIR, path-vqa:DIR, llava-med-vqa:DIR, questions:FILE.jsonl or .parquet, "
            "questions:hub:OWNER/NAME); phantoms:N (drawn by code, no patient)."
        ),
        show_default=False,
    ),
]

PmcUrl = Annotated[
    str, typer.Option(metavar="URL", help="PMC's bucket, or a mirror.", rich_help_panel=READING, show_default="PMC's")
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Keep what PMC sends here, for other builds too.", rich_help_panel=READING, show_default=False),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(help="A table's column of pictures.", rich_help_panel=READING, show_default=False),
]
CaptionColumn = Annotated[
    str | None,
    typer.Option(help="A table's column of captions.", rich_help_panel=READING, show_default=False),
]
Split = Annotated[str, typer.Option(help="Which questions of a benchmark: train.", rich_help_panel=READING)]
DomainName = Annotated[
    str,
    typer.Option("--domain", metavar="NAME|FILE", help="Words and questions of a field.", rich_help_panel=READING),
]

License = Annotated[
    str, typer.Option("--license", help="any, commercial, or a list: 'CC0,CC BY'.", rich_help_panel=SCREENING)
]
MinQuality = Annotated[
    float, typer.Option(help="Caption quality, 0 to 1, below which a figure is set aside.", rich_help_panel=SCREENING)
]
ChartsOption = Annotated[Charts, typer.Option("--charts", help="Charts and schematics.", rich_help_panel=SCREENING)]
PanelsOption = Annotated[Panels, typer.Option("--panels", help="Figures of several panels.", rich_help_panel=SCREENING)]
Modalities = Annotated[
    str | None,
    typer.Option(help="Only these, e.g. 'CXR,CT,MRI'.", rich_help_panel=SCREENING, show_default=False),
]
DuplicatesOption = Annotated[
    Duplicates,
    typer.Option("--duplicates", help="Same bytes, picture or caption as an earlier one.", rich_help_panel=SCREENING),
]
Exclude = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR|NAME:PATH",
        help="Pictures to be left out: a folder, or those that a benchmark tests on (slake:DIR).",
        rich_help_panel=SCREENING,
        show_default=False,
    ),
]
Clip = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="A CLIP or BiomedCLIP that scores the pairs.",
        rich_help_panel=SCREENING,
        show_default=False,
    ),
]
MinSimilarity = Annotated[
    float | None,
    typer.Option(help="The CLIP score below which it is set aside.", rich_help_panel=SCREENING, show_default=False),
]

Limit = Annotated[
    int | None, typer.Option(help="Keep at most so many pictures.", rich_help_panel=SELECTION, show_default=False)
]
Balance = Annotated[
    bool, typer.Option("--balance", help="Draw --limit evenly over modalities.", rich_help_panel=SELECTION)
]
Validation = Annotated[
    float, typer.Option(help="Share of articles held out, in files of its own.", rich_help_panel=SELECTION)
]

Teacher = Annotated[
    str, typer.Option(help="rules (offline), or a model's name.", rich_help_panel=TEACHING, metavar="rules|MODEL")
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="An OpenAI-compatible endpoint.", rich_help_panel=TEACHING, show_default="OpenAI's"
    ),
]
Batch = Annotated[bool, typer.Option("--batch", help="By the Batch API, at half price.", rich_help_panel=TEACHING)]
Budget = Annotated[
    float | None,
    typer.Option(metavar="USD", help="Never spend more.", rich_help_panel=TEACHING, show_default=False),
]
Price = Annotated[
    str | None,
    typer.Option(
        metavar="IN,OUT", help="USD per million tokens read, written.", rich_help_panel=TEACHING, show_default=False
    ),
]

Workers = Annotated[int, typer.Option(help="Processes that read and screen.", rich_help_panel=WORK)]
EngineOption = Annotated[
    EngineName, typer.Option("--engine", help="This machine, or Ray Data (an extra).", rich_help_panel=WORK)
]
Concurrency = Annotated[
    int | None,
    typer.Option(help="Requests in flight: to PMC (8), to the teacher (16).", rich_help_panel=WORK, show_default=False),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be read, fetched and paid; write nothing.", rich_help_panel=WORK),
]
