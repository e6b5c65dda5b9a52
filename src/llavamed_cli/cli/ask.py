"""`llavamed ask`: one picture, one question, the answer as it comes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llavamed_cli.cli.options import Debug, Device, Json, Quiet
from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.errors import UsageError

if TYPE_CHECKING:
    from llavamed_cli.model.generate import Prompt
    from llavamed_cli.model.load import LoadedModel

HOW = "How it answers"
ACKNOWLEDGED = "LLAVAMED_ACKNOWLEDGE"

EXAMPLES = """
Examples:

llavamed ask scan.png "What abnormality is seen?" --model tuned

llavamed ask slice.dcm "Is this a CT scan?" --model tuned --json

export LLAVAMED_MODEL=tuned; llavamed ask scan.png "Which organ is shown?"
"""


def ask(
    image: Annotated[Path, typer.Argument(help="A picture: PNG, JPEG, TIFF, WebP, DICOM.", show_default=False)],
    question: Annotated[str, typer.Argument(help="What to ask about it.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="A model folder or hub name.", envvar="LLAVAMED_MODEL", show_default=False)
    ],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.", rich_help_panel=HOW)] = 256,
    precision: Annotated[str, typer.Option(help="auto, bf16, fp16 or fp32.", rich_help_panel=HOW)] = "auto",
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
    prompt = _prompt(image, question)
    terminal.quiet_libraries()
    began = time.perf_counter()
    loaded = _load(model, device, precision)
    load_seconds = time.perf_counter() - began
    if as_json:
        terminal.result("", _whole_answer(loaded, prompt, model, load_seconds, max_new_tokens))
    else:
        _stream(loaded, prompt, max_new_tokens)
    if os.environ.get(ACKNOWLEDGED) != "1":
        from llavamed_cli.report_page import DISCLAIMER

        terminal.warn(DISCLAIMER)


def _prompt(image: Path, question: str) -> Prompt:
    from llavamed_cli.model.generate import Prompt
    from llavamed_cli.model.images import open_picture
    from llavamed_cli.records import IMAGE_MARKER, Turn

    return Prompt((Turn(speaker="human", text=f"{IMAGE_MARKER}\n{question.strip()}"),), (open_picture(image),))


def _load(model: str, device: str, precision: str) -> LoadedModel:
    from llavamed_cli.model.load import load_model

    return load_model(model, device=device, precision=precision)


def _stream(loaded: LoadedModel, prompt: Prompt, max_new_tokens: int) -> None:
    from llavamed_cli.model.generate import stream_answer

    for piece in stream_answer(loaded, prompt, max_new_tokens=max_new_tokens):
        print(piece, end="", flush=True)
    print(flush=True)


def _whole_answer(
    loaded: LoadedModel, prompt: Prompt, model: str, load_seconds: float, max_new_tokens: int
) -> dict[str, object]:
    from llavamed_cli import __version__
    from llavamed_cli.model.generate import answer_batch

    began = time.perf_counter()
    answer = answer_batch(loaded, [prompt], max_new_tokens=max_new_tokens)[0]
    width, height = prompt.pictures[0].size
    return {
        "answer": answer.text,
        "confidence": round(answer.confidence, 4),
        "tokens": len(answer.token_ids),
        "model": model,
        "choices": {name: choice.value for name, choice in loaded.choices.items()},
        "picture": {"width": width, "height": height},
        "seconds": {"load": round(load_seconds, 3), "answer": round(time.perf_counter() - began, 3)},
        "version": __version__,
        "notice": "research use only, not a medical device",
    }
