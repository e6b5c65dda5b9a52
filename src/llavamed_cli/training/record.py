"""What a training run leaves beside the weights: the loss curve as a picture, and a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llavamed_cli.files import atomic_write, write_text
from llavamed_cli.report_page import DISCLAIMER

SMOOTHING = 0.9


def draw_loss_curve(steps: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the loss of each step, and its exponential mean, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    losses = [float(step["loss"]) for step in steps]
    smooth: list[float] = []
    for loss in losses:
        smooth.append(loss if not smooth else SMOOTHING * smooth[-1] + (1 - SMOOTHING) * loss)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    numbers = [int(step["step"]) for step in steps]
    axes.plot(numbers, losses, color="#9ab", linewidth=0.8, label="each step")
    axes.plot(numbers, smooth, color="#0a5ccc", linewidth=1.6, label=f"exponential mean ({SMOOTHING})")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (mean over supervised tokens)")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path, "wb") as stream:
        FigureCanvasSVG(figure).print_svg(stream)


def write_model_card(out: Path, record: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
    """Write `model-card.md` from a run record and its metrics."""
    inputs = "\n".join(
        f"- {name}: `{Path(value['path']).name if 'path' in value else value['name']}`"
        + (f", SHA-256 `{value['sha256'][:16]}`" if "sha256" in value else "")
        for name, value in record["inputs"].items()
    )
    options = "\n".join(f"| {name} | {value} |" for name, value in record["options"].items())
    versions = ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    text = f"""# Model card

**{DISCLAIMER}** Its answers can be wrong while sounding sure.

Made by `llavamed {record["command"]}`; opens with `AutoModelForImageTextToText` and `AutoProcessor` of transformers.

## Made from

{inputs}

The licences of these parts and of the data apply to this model.

## Training

{len(steps)} steps, loss {steps[0]["loss"]:.3f} at first, {steps[-1]["loss"]:.3f} at last; seed {record["seed"]}.

| setting | value |
|---|---|
{options}

Versions: {versions}.

## Evaluation

None yet: `llavamed eval {out.name} blind:{out.name} --on NAME:PATH --out report` measures it.
"""
    write_text(out / "model-card.md", text)
