"""A published checkpoint to a plain Hugging Face folder, with its run record: what `llavamed convert` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llavamed_cli.errors import UsageError
from llavamed_cli.model.hub import locate
from llavamed_cli.model.load import load_reading
from llavamed_cli.model.precision import torch_dtype
from llavamed_cli.model.published.read import read_published
from llavamed_cli.model.save import save_model
from llavamed_cli.model.write_reading import write_reading
from llavamed_cli.progress import Progress
from llavamed_cli.run_record import begin_run

AS_STORED = "auto"
PLAIN_FORMATS = ("fp32", "fp16", "bf16")
QUANTISED_FORMATS = ("8bit", "4bit")


def convert_checkpoint(
    source: str,
    out: Path,
    *,
    base: str | None,
    vision_tower: str,
    template: str | None,
    dtype: str,
    progress: Progress,
) -> Mapping[str, Any]:
    """Read `source` and write it to `out`; return the load report as plain values.

    Args:
        dtype: "auto" keeps every tensor as it is stored; else one of PLAIN_FORMATS or QUANTISED_FORMATS.

    Raises:
        UsageError: an unknown number format, or `out` holds another run. ModelError: the checkpoint cannot be read.
    """
    known = (AS_STORED, *PLAIN_FORMATS, *QUANTISED_FORMATS)
    if dtype not in known:
        raise UsageError(f"unknown number format {dtype!r}, expected one of {', '.join(known)}", where="--dtype")
    folder = locate(source)
    beside = locate(base) if base is not None else None
    inputs: dict[str, Path | str] = {"source": folder}
    if beside is not None:
        inputs["base"] = beside
    options = {"vision_tower": vision_tower, "template": template, "dtype": dtype}
    run = begin_run(out, "convert", options=options, inputs=inputs, seed=0)
    if run.finished:
        progress.note(f"{out} is finished already; nothing to do")
        return run.results
    reading = read_published(folder, base=beside, vision_tower=vision_tower, template=template)
    if dtype in QUANTISED_FORMATS:
        loaded = load_reading(reading, source, precision=dtype, progress=progress)
        save_model(loaded.model, loaded.processor, out)
    else:
        write_reading(reading, out, dtype=None if dtype == AS_STORED else torch_dtype(dtype), progress=progress)
    for name, choice in reading.report.choices.items():
        run.choose(name, choice.value, choice.reason)
    run.finish(**reading.report.as_values())
    return run.results
