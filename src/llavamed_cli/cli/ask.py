"""`llavamed ask`: one picture, one question, the answer as it comes."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llavamed_cli.cli.options import Debug, Device, Json, Quiet
from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.errors import UsageError

if TYPE_CHECKING:
    from llavamed_cli.model.generate import Prompt
    from llavamed_cli.model.load import LoadedModel
    from llavamed_cli.model.picture import Picture

HOW = "How it answers"
SEEN = "How a picture is seen"
ACKNOWLEDGED = "LLAVAMED_ACKNOWLEDGE"

EXAMPLES = """
Examples:

llavamed ask scan.png "What abnormality is seen?" --model tuned

llavamed ask slice.dcm "Is this a CT scan?" --model tuned --json

llavamed ask chest.dcm "Is there a pneumothorax?" --model tuned --window -600,1500 --frame 40

export LLAVAMED_MODEL=tuned; llavamed ask scan.png "Which organ is shown?"
"""


def ask(
    image: Annotated[Path, typer.Argument(help="A picture: PNG, JPEG, TIFF, WebP, DICOM, NIfTI.", show_default=False)],
    question: Annotated[str, typer.Argument(help="What to ask about it.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="A model folder or hub name.", envvar="LLAVAMED_MODEL", show_default=False)
    ],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.", rich_help_panel=HOW)] = 256,
    precision: Annotated[str, typer.Option(help="auto, 4bit, 8bit, bf16, fp16 or fp32.", rich_help_panel=HOW)] = "auto",
    window: Annotated[
        str | None,
        typer.Option(metavar="C,W", help="DICOM, NIfTI: centre and width of the greys shown.", rich_help_panel=SEEN),
    ] = None,
    frame: Annotated[
        int | None, typer.Option(metavar="N", help="Which frame, page or slice, from 1.", rich_help_panel=SEEN)
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Ask a model about a picture.

    The same question gets the same answer (decoding is greedy), printed as it comes. With --json it is one object with
    a confidence: the geometric mean of the answer tokens' probabilities.

    The last line on stderr says that this is no medical device; LLAVAMED_ACKNOWLEDGE=1 silences it.
    """
    terminal = Terminal(as_json=as_json, quiet=quiet)
    if not question.strip():
        raise UsageError("the question is empty")
    picture = _picture(image, window, frame)
    for note in picture.facts.notes:
        terminal.note(f"{image.name}: {note}")
    prompt = _prompt(picture, question)
    terminal.quiet_libraries()
    began = time.perf_counter()
    loaded = _load(model, device, precision, terminal)
    load_seconds = time.perf_counter() - began
    if as_json:
        terminal.result("", _whole_answer(loaded, prompt, picture, model, load_seconds, max_new_tokens))
    else:
        _stream(loaded, prompt, max_new_tokens)
    if os.environ.get(ACKNOWLEDGED) != "1":
        from llavamed_cli.report_page import DISCLAIMER

        terminal.warn(DISCLAIMER)


def _picture(image: Path, window: str | None, frame: int | None) -> Picture:
    from llavamed_cli.model.images import read_picture
    from llavamed_cli.model.picture import View

    if window is None:
        return read_picture(image, View(frame=frame))
    try:
        centre, width = (float(part) for part in window.split(","))
    except ValueError as error:
        raise UsageError(f"--window is a centre and a width, such as 40,400, not {window!r}") from error
    return read_picture(image, View(window=(centre, width), frame=frame))


def _prompt(picture: Picture, question: str) -> Prompt:
    from llavamed_cli.model.generate import Prompt
    from llavamed_cli.records import IMAGE_MARKER, Turn

    return Prompt((Turn(speaker="human", text=f"{IMAGE_MARKER}\n{question.strip()}"),), (picture.image,))


def _load(model: str, device: str, precision: str, terminal: Terminal) -> LoadedModel:
    from llavamed_cli.model.load import load_model

    return load_model(model, device=device, precision=precision, progress=terminal)


def _stream(loaded: LoadedModel, prompt: Prompt, max_new_tokens: int) -> None:
    from llavamed_cli.model.generate import stream_answer

    for piece in stream_answer(loaded, prompt, max_new_tokens=max_new_tokens):
        print(piece, end="", flush=True)
    print(flush=True)


def _whole_answer(
    loaded: LoadedModel, prompt: Prompt, picture: Picture, model: str, load_seconds: float, max_new_tokens: int
) -> dict[str, object]:
    from llavamed_cli import __version__
    from llavamed_cli.model.generate import answer_batch

    began = time.perf_counter()
    answer = answer_batch(loaded, [prompt], max_new_tokens=max_new_tokens)[0]
    return {
        "answer": answer.text,
        "confidence": round(answer.confidence, 4),
        "tokens": len(answer.token_ids),
        "model": model,
        "choices": {name: asdict(choice) for name, choice in loaded.choices.items()},
        "picture": asdict(picture.facts),
        "seconds": {"load": round(load_seconds, 3), "answer": round(time.perf_counter() - began, 3)},
        "version": __version__,
        "notice": "research use only, not a medical device",
    }
