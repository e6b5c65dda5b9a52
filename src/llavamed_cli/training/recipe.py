"""How a stage is trained: one frozen dataclass, read from TOML, overridden by flags, saved resolved."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.files import read_toml

RECIPES = Path(__file__).parent / "recipes"
PARTS = ("projector", "language_model")
"""What can be trained. The vision tower is frozen in both stages (LLaVA-Med, section 4)."""
WHOLE_NUMBERS = ("lora_rank", "batch_size", "max_tokens", "epochs", "save_every", "keep")
NUMBERS = ("lora_alpha", "lora_dropout", "learning_rate", "warmup", "weight_decay", "max_grad_norm")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of one training stage.

    train: the parts that learn, of "projector" and "language_model".
    lora_rank: 0 trains the language model's own weights; above 0 trains low-rank additions to its linear layers,
        merged into them at the end. lora_alpha: their scale is lora_alpha / lora_rank.
    batch_size: samples a step. The loss is the mean over all their supervised tokens.
    max_tokens: samples are packed side by side into rows of at most this many tokens. It sets speed and memory, never
        the loss. A longer sample has a row of its own.
    epochs, steps: how long; `steps`, where given, wins.
    learning_rate: reached after `warmup` (a share of all steps), then falling to 0 along a cosine.
    save_every: steps between checkpoints; the last `keep` of them stay.
    """

    train: tuple[str, ...] = ("projector",)
    lora_rank: int = 0
    lora_alpha: float = 0.0
    lora_dropout: float = 0.0
    batch_size: int = 128
    max_tokens: int = 2048
    epochs: int = 1
    steps: int | None = None
    learning_rate: float = 1e-3
    warmup: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    save_every: int = 100
    keep: int = 2

    def __post_init__(self) -> None:
        faults = self._wrong_types() or self._wrong_values()
        if faults:
            raise UsageError("this recipe cannot be used:\n    " + "\n    ".join(faults))

    def _wrong_types(self) -> list[str]:
        """TOML knows types: a number in quotes, or half a step, is a slip worth a word."""
        kinds: dict[str, tuple[str, tuple[type, ...]]] = {
            **dict.fromkeys(WHOLE_NUMBERS, ("a whole number", (int,))),
            **dict.fromkeys(NUMBERS, ("a number", (int, float))),
            "steps": ("a whole number", (int, type(None))),
            "gradient_checkpointing": ("true or false", (bool,)),
            "train": ("a list of parts", (tuple,)),
        }
        return [
            f"{name}: expected {kind}, found {getattr(self, name)!r}"
            for name, (kind, types) in kinds.items()
            if type(getattr(self, name)) not in types
        ]

    def _wrong_values(self) -> list[str]:
        faults = [
            f"train: unknown part {part!r}, expected {' or '.join(PARTS)}" for part in self.train if part not in PARTS
        ]
        if not self.train:
            faults.append("train: nothing would be trained")
        if self.lora_rank and "language_model" not in self.train:
            faults.append("lora_rank: the language model is not trained, so there is nothing to adapt")
        for name in ("batch_size", "max_tokens", "epochs", "save_every", "keep"):
            if getattr(self, name) < 1:
                faults.append(f"{name}: must be at least 1")
        if self.steps is not None and self.steps < 1:
            faults.append("steps: must be at least 1")
        for name in ("lora_rank", "lora_alpha", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                faults.append(f"{name}: must not be negative")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                faults.append(f"{name}: must be above 0")
        if not 0 <= self.warmup < 1:
            faults.append("warmup: must be a share from 0 up to 1")
        if not 0 <= self.lora_dropout < 1:
            faults.append("lora_dropout: must be a share from 0 up to 1")
        return faults

    @property
    def lora_scale(self) -> float:
        """lora_alpha, or twice the rank where it is left at 0."""
        return self.lora_alpha or 2.0 * self.lora_rank

    def as_options(self) -> dict[str, Any]:
        """Every setting, for run.json."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def builtin_recipes() -> list[str]:
    """The names that `--recipe` knows."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name_or_file: str, overrides: Mapping[str, Any]) -> Recipe:
    """Read a recipe by name or file; `overrides` that are not None take the place of its keys.

    Raises:
        UsageError: no such recipe, or settings that cannot be. DataError: no TOML, or an unknown key.
    """
    path = Path(name_or_file)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_file}.toml"
    if not path.is_file():
        raise UsageError(
            f"no recipe {name_or_file!r}", where="--recipe", hint="A .toml file, or: " + ", ".join(builtin_recipes())
        )
    settings = read_toml(path, "recipe")
    known = {field.name for field in fields(Recipe)}
    unknown = [_unknown_key(key, known) for key in settings if key not in known]
    if unknown:
        raise DataError("; ".join(unknown), where=str(path))
    settings.update({name: value for name, value in overrides.items() if value is not None})
    if isinstance(settings.get("train"), list):
        settings["train"] = tuple(settings["train"])
    return Recipe(**settings)


def _unknown_key(key: str, known: set[str]) -> str:
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else "")
