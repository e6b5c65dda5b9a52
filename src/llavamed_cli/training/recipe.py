"""How a stage is trained: one frozen dataclass, read from TOML, overridden by flags, saved resolved.

All faults of a recipe are told at once. What depends on the model (does a pattern of names match anything?) is checked
by `parts`, what depends on the machine (is bitsandbytes there?) by who needs it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from llavamed_cli.errors import UsageError
from llavamed_cli.files import read_toml

RECIPES = Path(__file__).parent / "recipes"
PARTS = ("projector", "lm", "vision_tower", "embeddings", "lm_head")
CHOICES = {
    "quantise": ("none", "4bit", "8bit"),
    "optimizer": ("adamw", "adamw8bit"),
    "cache_features": ("auto", "memory", "disk", "off"),
}
MORE_THAN_0 = ("learning_rate", "projector_learning_rate", "max_grad_norm")
MAY_BE_0 = ("lora_rank", "lora_alpha", "weight_decay", "patience")
SHARES = ("warmup", "lora_dropout")
SPEED_ALONE = ("max_tokens", "max_pictures", "gradient_checkpointing", "cache_features", "save_every", "keep")
"""What sets speed, memory and checkpoints, and never what is learned, but for rounding: an interrupted run may go on
with other settings of these."""
KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "int | None": ("a whole number", (int, type(None))),
    "float": ("a number", (int, float)),
    "float | None": ("a number", (int, float, type(None))),
    "bool": ("true or false", (bool,)),
    "str": ("a name", (str,)),
    "tuple[str, ...]": ("a list of names", (tuple,)),
}
"""By a key's annotation: what is asked for, and the types that are it. Python takes True for a number; TOML never."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of one training stage.

    train: what learns: names of parts, and patterns of parameter names (`model.language_model.layers.3?.*`).
        "projector": from picture to words. "lm": the language model, its word table and head with it; by low-rank
        additions to its linear layers alone where there is a `lora_rank`. "vision_tower": as far as it is read.
        "embeddings": the word table. "lm_head": what scores the next word (the word table itself where they are tied).
    lora_rank: 0 trains the language model's own weights; above 0 trains low-rank additions to its linear layers,
        merged into them at the end. lora_alpha: their scale is lora_alpha / lora_rank; 0 means twice the rank.
    lora_dropout: the share of their inputs left out at random.
    quantise: hold the frozen language model in 4 or 8 bits, beside its low-rank additions where it learns (QLoRA).
    batch_size: samples a step. The loss is the mean over all their supervised tokens.
    max_tokens: samples are packed side by side into rows of at most this many tokens. It sets speed and memory, never
        the loss. A longer sample has a row of its own.
    share_pictures: samples about the same picture share one copy of its tokens. It sets speed, never the loss.
    window: how many steps' samples are laid out together, so that those about one picture meet in a step.
    max_pictures: the most pictures a row holds.
    cache_features: where the frozen tower's view of a picture is kept for its next turn.
    epochs, steps: how long; `steps`, where given, wins.
    learning_rate: reached after the warm-up, then falling to 0 along a cosine. warmup: its share of all steps.
    projector_learning_rate: the projector's own, where it differs.
    weight_decay: of matrices; biases and norms have none.
    max_grad_norm: longer gradients are cut to this length.
    gradient_checkpointing: compute the language model's inner values again on the way back, instead of keeping them.
    optimizer: AdamW, or AdamW with its moments in 8 bits.
    save_every: steps between checkpoints. keep: how many of them stay, the last.
    validate_every: steps between validations, where there is a file to validate on. patience: validations without a
        better loss after which training ends; 0 never ends it.
    merge: fold low-rank additions into the weights at the end; they are saved alone as well.
    """

    train: tuple[str, ...] = ("projector",)
    lora_rank: int = 0
    lora_alpha: float = 0.0
    lora_dropout: float = 0.0
    quantise: str = "none"
    batch_size: int = 128
    max_tokens: int = 2048
    share_pictures: bool = True
    window: int = 8
    max_pictures: int = 64
    cache_features: str = "auto"
    epochs: int = 1
    steps: int | None = None
    learning_rate: float = 1e-3
    projector_learning_rate: float | None = None
    warmup: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    optimizer: str = "adamw"
    save_every: int = 100
    keep: int = 2
    validate_every: int = 100
    patience: int = 0
    merge: bool = True

    def __post_init__(self) -> None:
        faults = _faults(vars(self))
        if faults:
            raise _unusable(faults, None)

    @property
    def lora_scale(self) -> float:
        """lora_alpha, or twice the rank where it is left at 0."""
        return self.lora_alpha or 2.0 * self.lora_rank

    def as_options(self) -> dict[str, Any]:
        """Every setting, for run.json."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


_KINDS_OF_KEYS = {field.name: KINDS[str(field.type)] for field in fields(Recipe)}
_DEFAULTS = {field.name: field.default for field in fields(Recipe)}


def builtin_recipes() -> list[str]:
    """The names that `--recipe` knows."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name_or_file: str, overrides: Mapping[str, Any]) -> Recipe:
    """Read a recipe by name or file; `overrides` that are not None take the place of its keys.

    Raises:
        UsageError: no such recipe, or all that is wrong with it: unknown keys, wrong types, values that cannot be.
        DataError: it is not TOML.
    """
    path = Path(name_or_file)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_file}.toml"
    if not path.is_file():
        raise UsageError(
            f"no recipe {name_or_file!r}", where="--recipe", hint="A .toml file, or: " + ", ".join(builtin_recipes())
        )
    settings = read_toml(path, "recipe")
    settings.update({name: value for name, value in overrides.items() if value is not None})
    known = {name: _as_held(name, value) for name, value in settings.items() if name in _KINDS_OF_KEYS}
    unknown = [f"unknown key {key!r}{nearest(key, _KINDS_OF_KEYS)}" for key in settings if key not in _KINDS_OF_KEYS]
    faults = unknown + _faults({**_DEFAULTS, **known})
    if faults:
        raise _unusable(faults, str(path))
    return Recipe(**known)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`, did you mean '...'?` with the known name nearest to `name`; nothing where none is near."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=cutoff)
    return f", did you mean {near[0]!r}?" if near else ""


def is_pattern(name: str) -> bool:
    """Whether an entry of `train` is a pattern of parameter names; names of parts have no dot and no wildcard."""
    return any(sign in name for sign in ".*?[")


def _as_held(name: str, value: Any) -> Any:
    """A TOML list as a tuple; a whole number as the fraction it is asked for, so that 1 and 1.0 are one recipe."""
    kind, _ = _KINDS_OF_KEYS[name]
    if isinstance(value, list):
        return tuple(value)
    return float(value) if kind == "a number" and type(value) is int else value


def _unusable(faults: list[str], where: str | None) -> UsageError:
    return UsageError("this recipe cannot be used:\n    " + "\n    ".join(faults), where=where)


def _faults(settings: Mapping[str, Any]) -> list[str]:
    """All that is wrong with a whole set of settings. A value of a wrong type is not looked at further."""
    wrong = {
        name: f"{name}: expected {kind}, found {list(value) if isinstance(value, tuple) else value!r}"
        for name, (kind, types) in _KINDS_OF_KEYS.items()
        if type(value := settings[name]) not in types
    }
    right = {name: value for name, value in settings.items() if name not in wrong}
    train = _train_faults(right["train"]) if "train" in right else []
    return [*wrong.values(), *_value_faults(right), *train, *_clashes(right)]


def _value_faults(settings: Mapping[str, Any]) -> list[str]:
    """Values out of bounds, each by itself."""
    faults = []
    for name, value in settings.items():
        kind, _ = _KINDS_OF_KEYS[name]
        if name in CHOICES:
            if value not in CHOICES[name]:
                faults.append(f"{name}: unknown {value!r}, expected {' or '.join(CHOICES[name])}")
        elif value is None or kind not in ("a number", "a whole number"):
            continue
        elif name in SHARES:
            if not 0 <= value < 1:
                faults.append(f"{name}: must be a share from 0 up to 1")
        elif name in MAY_BE_0:
            if not 0 <= value < math.inf:
                faults.append(f"{name}: must not be negative")
        elif name in MORE_THAN_0:
            if not 0 < value < math.inf:
                faults.append(f"{name}: must be above 0")
        elif value < 1:
            faults.append(f"{name}: must be at least 1")
    return faults


def _train_faults(train: tuple[Any, ...]) -> list[str]:
    faults = [] if train else ["train: nothing would be trained"]
    for name in train:
        if not isinstance(name, str):
            faults.append(f"train: expected names, found {name!r}")
        elif name not in PARTS and not is_pattern(name):
            meant = ", did you mean 'lm'?" if name == "language_model" else nearest(name, PARTS)
            faults.append(
                f"train: unknown part {name!r}{meant or ', expected ' + ', '.join(PARTS)}"
                " (a pattern of parameter names has a dot or a *)"
            )
    return faults


def _clashes(settings: Mapping[str, Any]) -> list[str]:
    """Settings that are possible each by itself, and not together. What had a fault of its own is passed over."""
    faults = []
    train, rank = settings.get("train", ()), settings.get("lora_rank")
    if rank and "lm" not in train:
        faults.append("lora_rank: the language model is not trained, so there is nothing to adapt; add 'lm' to train")
    if settings.get("quantise", "none") != "none" and rank == 0 and "lm" in train:
        faults.append("quantise: quantised weights cannot learn; give a lora_rank, or take 'lm' out of train")
    if "vision_tower" in train and settings.get("cache_features") in ("memory", "disk"):
        faults.append("cache_features: a vision tower that learns sees a picture anew each time; use auto or off")
    return faults
