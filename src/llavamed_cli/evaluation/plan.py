"""What one `eval` run is asked to do, checked as far as it can be before a model is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from llavamed_cli.benchmarks.open_benchmark import BenchmarkName, parse_benchmark
from llavamed_cli.errors import UsageError
from llavamed_cli.evaluation.answerers.answerer import Who, parse_who
from llavamed_cli.evaluation.judge.options import JudgeOptions

Missing = Literal["error", "skip"]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How servers are asked: see `endpoint.asking.EndpointOptions`.

    yes: pictures may leave this machine, it need not be said. interactive: somebody reads it where it is said.
    """

    name: str = ""
    base_url: str | None = None
    budget: float | None = None
    price: tuple[float, float] | None = None
    concurrency: int = 16
    yes: bool = False
    interactive: bool = False

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget <= 0:
            raise UsageError(f"--budget is {self.budget:g}; it must be above 0 US dollars")

    def named(self, model: str, base_url: str | None) -> ServerOptions:
        """The same for one model, at its own server."""
        return replace(self, name=model, base_url=base_url)


@dataclass(frozen=True, kw_only=True)
class EvalPlan:
    """One run.

    whos, benchmarks: by the short name that folders and tables use, in the order typed.
    images: folder of the pictures, where it is not beside the benchmark's file.
    train: training questions of the benchmark's form, for answerers that know them, where its file has none.
    limit: ask only the first questions of each benchmark.
    missing: whether a question that cannot be asked refuses the run or is left out.
    batch_size: questions that a local model answers at once; None leaves it to it.
    server: how servers are asked, by WHO that are models of one.
    judge: who rates open answers, if anyone does.
    trained_on: folders of training pictures in which the benchmarks' are looked for.
    """

    whos: dict[str, Who]
    benchmarks: dict[str, BenchmarkName]
    out: Path
    images: Path | None
    train: Path | None
    limit: int | None
    missing: Missing
    max_new_tokens: int
    batch_size: int | None
    device: str
    seed: int
    server: ServerOptions = ServerOptions()
    judge: JudgeOptions | None = None
    trained_on: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if all(name.kind == "phantoms" for name in self.benchmarks.values()):
            for option, value in (("--images", self.images), ("--train", self.train)):
                if value is not None:
                    raise UsageError(f"{option} says nothing about phantoms, and no other benchmark is named")
        kinds = {who.kind for who in self.whos.values()}
        for option, given, asked in (
            ("--base-url", self.server.base_url, {"server"}),
            ("--budget", self.server.budget, {"server", "cascade"}),
            ("--price", self.server.price, {"server", "cascade"}),
        ):
            if given is not None and not kinds & asked:
                raise UsageError(
                    f"{option} is for servers, and none of {', '.join(who.text for who in self.whos.values())} is one",
                    hint="A server's model is openai:MODEL, or with --base-url a plain name that is no folder here.",
                )


def name_answerers(texts: Sequence[str], *, served: bool = False) -> dict[str, Who]:
    """The answerers by short name. served: see `parse_who`. Raises UsageError if one is unknown, or named twice."""
    _refuse_repeats(texts, "answerer")
    whos = [parse_who(text, served=served) for text in texts]
    return dict(zip(_distinct([_short(who) for who in whos]), whos, strict=True))


def name_benchmarks(texts: Sequence[str]) -> dict[str, BenchmarkName]:
    """The benchmarks by short name. Raises UsageError if one is unknown, absent, or named twice."""
    _refuse_repeats(texts, "benchmark")
    names = [parse_benchmark(text) for text in texts]
    return dict(zip(_distinct([name.title for name in names]), names, strict=True))


def _short(who: Who) -> str:
    """The last part of the path: "runs/a/tuned" is "tuned", "blind:runs/a/tuned" is "blind:tuned"."""
    path = Path(who.target).expanduser()
    last = path.resolve().name if who.target.startswith(".") and who.kind != "server" else path.name
    last = re.sub(r"[^\w.-]+", "-", last).strip(".")
    prefix = "" if who.kind in ("model", "server") else f"{who.kind}:"
    prefix = "blind:" if who.blind else prefix
    return (prefix + last).rstrip(":") or "model"


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, a later namesake with a number."""
    taken: list[str] = []
    for name in names:
        number, candidate = 2, name
        while candidate in taken:
            candidate, number = f"{name}-{number}", number + 1
        taken.append(candidate)
    return taken


def _refuse_repeats(texts: Sequence[str], what: str) -> None:
    for text in texts:
        if texts.count(text) > 1:
            raise UsageError(f"the {what} {text!r} is named twice")
