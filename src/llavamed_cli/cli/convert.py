"""`llavamed convert`: a checkpoint as others published it, as a plain Hugging Face folder."""

from __future__ import annotations

from typing import Annotated

import typer

from llavamed_cli.cli.options import Debug, Json, Out, Quiet
from llavamed_cli.cli.terminal import Terminal

EXAMPLES = """
Examples:

llavamed convert microsoft/llava-med-v1.5-mistral-7b --out llava-med

llavamed convert llava-med-7b-delta --base huggyllama/llama-7b --out llava-med-v1

llavamed convert microsoft/llava-med-v1.5-mistral-7b --out small --dtype 4bit
"""


def convert(
    source: Annotated[str, typer.Argument(help="A checkpoint's folder or hub name.", show_default=False)],
    out: Out,
    base: Annotated[
        str | None,
        typer.Option(help="The language model that a delta or a projector file belongs to.", show_default=False),
    ] = None,
    vision_tower: Annotated[
        str,
        typer.Option(
            help="checkpoint: its own where it has one; stock: the one its config names; or a folder or hub name."
        ),
    ] = "checkpoint",
    template: Annotated[
        str | None, typer.Option(help="Chat template instead of the checkpoint's own.", show_default=False)
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto (as stored), fp32, fp16, bf16, 8bit or 4bit.")] = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a published checkpoint as a plain Hugging Face LLaVA folder, and say what became of every tensor.

    Reads LLaVA-Med v1.5 and LLaVA v1.5, LLaVA-Med v1.0 and LLaVA v1 (also a delta with --base), projector files, and
    Hugging Face's LLaVA of any age. The folder opens in transformers, and in servers built on it, without llavamed.

    Every other command reads such checkpoints as they are; converting them once makes opening them faster.
    """
    from llavamed_cli.model.convert import convert_checkpoint

    terminal = Terminal(as_json=as_json, quiet=quiet)
    terminal.quiet_libraries()
    report = convert_checkpoint(
        source, out, base=base, vision_tower=vision_tower, template=template, dtype=dtype, progress=terminal
    )
    terminal.result("\n".join([str(out), *report["lines"]]), {"out": str(out), **report})
