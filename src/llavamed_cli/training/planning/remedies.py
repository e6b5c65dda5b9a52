"""What would make a run fit: settings tried one after the other, the mildest first, each planned anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from llavamed_cli.training.planning.memory import TrainingMemory, size_text
from llavamed_cli.training.recipe import Recipe

MOST_CARDS = 1024
SUGGESTED_RANK = 128
"""LLaVA-1.5's own (finetune_lora.sh), where a recipe has none."""
TOKENS_STEP = 256

Planner = Callable[[Recipe, int], TrainingMemory]
"""Memory on one of so many devices, for a recipe."""


@dataclass(frozen=True)
class Remedy:
    """Options that could be added to the command, what each device would hold then, and whether that fits."""

    options: str
    total: int
    fits: bool

    def line(self) -> str:
        """For a person."""
        return f"{self.options:<70} {size_text(self.total):>11}  {'fits' if self.fits else 'too much'}"


def find_remedies(recipe: Recipe, memory: Planner, *, room: int, longest: int, cards: int) -> tuple[Remedy, ...]:
    """What was tried for a run that takes more than `room` bytes, up to the first that fits; and how many devices do.

    Args:
        longest: tokens of the longest sample, below which no row can go.
    """
    tried: list[Remedy] = []
    for changed in _ladder(recipe):
        tried.append(_remedy(recipe, changed, memory, room, cards))
        if tried[-1].fits:
            break
        shorter = _shorter(changed, memory, room, longest, cards)
        if shorter is not None:
            tried.append(_remedy(recipe, shorter, memory, room, cards))
            break
    spread = replace(recipe, gradient_checkpointing=True)
    enough = next((count for count in _counts(cards) if memory(spread, count).total <= room), None)
    if enough is not None:
        total = memory(spread, enough).total
        options = " ".join([*_options(recipe, spread), f"on {enough} such devices (FSDP)"])
        tried.append(Remedy(options, total, True))
    return tuple(tried)


def _ladder(recipe: Recipe) -> Iterator[Recipe]:
    """Recipes that take less and less: exact ones first, then those that learn less."""
    seen = recipe
    steps: list[dict[str, object]] = [{"gradient_checkpointing": True}, {"optimizer": "adamw8bit"}]
    if "lm" in recipe.train:
        if not recipe.lora_rank:
            steps.append({"lora_rank": SUGGESTED_RANK})
        steps.append({"quantise": "4bit"})
    elif not any(name not in ("projector", "vision_tower") for name in recipe.train):
        steps.append({"quantise": "4bit"})
    for step in steps:
        changed = replace(seen, **step)  # type: ignore[arg-type]
        if changed != seen:
            seen = changed
            yield seen


def _shorter(recipe: Recipe, memory: Planner, room: int, longest: int, cards: int) -> Recipe | None:
    """The recipe with the most tokens a row that fit, where any do."""
    tokens = recipe.max_tokens - recipe.max_tokens % TOKENS_STEP
    while tokens >= max(TOKENS_STEP, longest):
        changed = replace(recipe, max_tokens=tokens)
        if tokens < recipe.max_tokens and memory(changed, cards).total <= room:
            return changed
        tokens -= TOKENS_STEP
    return None


def _remedy(recipe: Recipe, changed: Recipe, memory: Planner, room: int, cards: int) -> Remedy:
    total = memory(changed, cards).total
    return Remedy(" ".join(_options(recipe, changed)), total, total <= room)


def _options(before: Recipe, after: Recipe) -> list[str]:
    """What to type to come from one recipe to the other."""
    typed = []
    for name, value in vars(after).items():
        if value != vars(before)[name]:
            flag = f"--{name.replace('_', '-')}"
            typed.append(flag if value is True else f"{flag} {value}")
    return typed


def _counts(cards: int) -> Iterator[int]:
    count = cards * 2
    while count <= MOST_CARDS:
        yield count
        count *= 2
