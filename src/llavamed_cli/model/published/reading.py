"""What reading a published checkpoint yields: Hugging Face's LLaVA in parts, its tensors still on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.precision import Choice
from llavamed_cli.model.published.lazy_tensor import LazyTensor

if TYPE_CHECKING:
    from transformers import GenerationConfig, LlavaConfig, LlavaProcessor

CHECKPOINT, STOCK = "checkpoint", "stock"
"""Which vision tower: the one in the checkpoint, or the one its config names; else a folder or hub name."""
NAMES_LISTED = 4


@dataclass(frozen=True)
class LoadReport:
    """What was found and what became of every tensor.

    layout: what kind of checkpoint it is, in words.
    choices: "vision tower", "chat template" and the like, each with its reason.
    used: how many stored tensors the model holds. added: what no file held, and how it was made.
    ignored: stored tensors that are left out, by reason.
    notes: what a person should know ("the checkpoint's own tower differs from the stock one").
    """

    layout: str
    choices: Mapping[str, Choice]
    used: int
    added: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report for a person, a line each."""
        told = [f"{self.layout}: {self.used} tensors used"]
        told += [f"{name}: {choice.value} ({choice.reason})" for name, choice in self.choices.items()]
        told += [f"added {name}: {how}" for name, how in self.added.items()]
        for reason, names in self.ignored.items():
            more = f", ... ({len(names)})" if len(names) > NAMES_LISTED else ""
            told.append(f"left out, {reason}: {', '.join(names[:NAMES_LISTED])}{more}")
        return [*told, *self.notes]

    def as_values(self) -> dict[str, Any]:
        """The report for a machine."""
        return {
            "layout": self.layout,
            "choices": {name: asdict(choice) for name, choice in self.choices.items()},
            "tensors_used": self.used,
            "added": dict(self.added),
            "ignored": {reason: list(names) for reason, names in self.ignored.items()},
            "notes": list(self.notes),
            "lines": self.lines(),
        }


@dataclass(frozen=True)
class Reading:
    """A published checkpoint as Hugging Face's LLaVA.

    tensors: by the names of llava-hf's own folders (`language_model.model.layers.0...`,
    `language_model.lm_head.weight`, `multi_modal_projector.linear_1.weight`, `vision_tower.vision_model...`), which
    every transformers from 4.3x to 5.x and other servers read.
    """

    config: LlavaConfig = field(repr=False)
    processor: LlavaProcessor = field(repr=False)
    generation_config: GenerationConfig = field(repr=False)
    tensors: Mapping[str, LazyTensor] = field(repr=False)
    report: LoadReport
