"""Which model judges, where, at what price."""

from __future__ import annotations

from dataclasses import dataclass

from llavamed_cli.errors import UsageError

OPENAI = "openai:"


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """An EndpointOptions: see there."""

    name: str
    base_url: str | None = None
    budget: float | None = None
    price: tuple[float, float] | None = None
    concurrency: int = 16

    def __post_init__(self) -> None:
        if self.budget is not None and not self.budget > 0:
            raise UsageError(f"--judge-budget is {self.budget:g}; it must be above 0 US dollars")


def name_judge(text: str) -> str:
    """The model of openai:MODEL or MODEL. Raises UsageError if there is none."""
    name = text.removeprefix(OPENAI).strip()
    if not name:
        raise UsageError("--judge names no model", hint="For example: --judge gpt-4o.")
    return name
