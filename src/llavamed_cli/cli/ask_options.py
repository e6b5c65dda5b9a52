"""The options of `ask`, declared apart from what it does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WHO, HOW, SEEN, SHOWN = "Who answers", "How it answers", "How a picture is seen", "What is shown"

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE... [QUESTION]",
        help="Pictures: files (PNG, JPEG, TIFF, WebP, DICOM, NIfTI), a folder of DICOM, https addresses, - for what is "
        "piped in. The question is the last word that is none of these.",
        show_default=False,
    ),
]
Questions = Annotated[
    list[str] | None,
    typer.Option(
        "--question", "-q", metavar="TEXT", help="A question; several are each asked anew.", show_default=False
    ),
]
QuestionFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Questions, one a line; - for what is piped in.", show_default=False),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="A model folder or hub name, of any published layout.",
        envvar="LLAVAMED_MODEL",
        show_default=False,
        rich_help_panel=WHO,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="An OpenAI-compatible server (vLLM, llama.cpp); --model names its model. openai:MODEL is OpenAI's. "
        "Pictures then leave this machine, as pixels alone.",
        show_default=False,
        rich_help_panel=WHO,
    ),
]
SetDefault = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Take this model from now on when none is named, and leave.", rich_help_panel=WHO),
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Agree beforehand to what would be asked, as scripts must.", rich_help_panel=WHO)
]
Precision = Annotated[str, typer.Option(help="auto, 4bit, 8bit, bf16, fp16 or fp32.", rich_help_panel=WHO)]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="The longest answer.", rich_help_panel=HOW)]
Temperature = Annotated[
    float, typer.Option(help="0 takes the likeliest token; above, one is drawn.", rich_help_panel=HOW)
]
TopP = Annotated[float, typer.Option(help="Draw from the likeliest tokens that hold this share.", rich_help_panel=HOW)]
System = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="A system message in place of the model's own.", rich_help_panel=HOW),
]
DeclineBelow = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        min=0.0,
        max=1.0,
        help="Give no answer that is less sure than this, but what the model wavers between.",
        show_default=False,
        rich_help_panel=HOW,
    ),
]
Window = Annotated[
    str | None,
    typer.Option(metavar="C,W", help="DICOM, NIfTI: centre and width of the greys shown.", rich_help_panel=SEEN),
]
Frame = Annotated[
    int | None,
    typer.Option(metavar="N", help="Which frame, page or slice, from 1.", rich_help_panel=SEEN),
]
EvidenceFile = Annotated[
    Path | None,
    typer.Option(
        "--evidence",
        metavar="FILE.png",
        help="Where the answer looked: parts of the picture hidden, and shown alone, in turn (340 readings). It shows "
        "what moved the answer, not that it is right nor why; what is wider than a sixth of the view may leave "
        "no trace.",
        show_default=False,
        rich_help_panel=SHOWN,
    ),
]
Show = Annotated[
    bool, typer.Option("--show", help="Print the picture in the terminal, where it can.", rich_help_panel=SHOWN)
]
