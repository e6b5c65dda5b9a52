"""A file of stored reviews, scored without a server: `llavamed eval --reviews FILE`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llavamed_cli.evaluation.judge.relative import summarise_reviews
from llavamed_cli.evaluation.judge.review import by_benchmark, read_reviews
from llavamed_cli.evaluation.judge.table import judge_lines
from llavamed_cli.files import file_sha256
from llavamed_cli.records import Fault

INTERVALS = "95% intervals by a bootstrap over pictures."
NO_PICTURES = "The file names no pictures: each question counts as one, so the intervals are too narrow."


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """scores: {"reviews": FILE, "sha256", "seed", "benchmarks": {title: {"judge": see relative.py}}}."""

    scores: dict[str, Any]
    text: str
    faults: Sequence[Fault]
    kept: int


def rescore(file: Path, seed: int) -> Rescored:
    """Score the reviews of a file, ours or one as LLaVA-Med wrote it.

    Raises:
        UsageError, DataError: as `read_reviews` does.
    """
    reviews, faults = read_reviews(file)
    judged = {title: summarise_reviews(own, seed) for title, own in by_benchmark(reviews).items()}
    lines = []
    for title, judge in judged.items():
        lines += [f"{title}: {judge['reviews']['n']} reviews of {judge['questions']} questions", INTERVALS, ""]
        lines += [*judge_lines(judge, strata=True), ""]
        if any(review.stored is not None for review in reviews):
            lines += [*_as_v1_0_prints(judge), ""]
    if all(review.picture is None for review in reviews):
        lines.append(NO_PICTURES)
    return Rescored(
        scores={
            "reviews": str(file),
            "sha256": file_sha256(file),
            "seed": seed,
            "benchmarks": {title: {"judge": judge} for title, judge in judged.items()},
        },
        text="\n".join(lines).rstrip(),
        faults=faults,
        kept=len(reviews),
    )


def _as_v1_0_prints(judge: Mapping[str, Any]) -> Iterator[str]:
    """The lines of LLaVA-Med v1.0's summary: mean ratings, and the ratio of these."""
    yield "As LLaVA-Med v1.0 prints it: the ratio of means, with -1 for what it could not read."
    for pair in judge["pairs"]:
        for name, group in {"all": pair, **pair["by"].get("question_type", {})}.items():
            published = group["published"]
            if published is not None and published["ratio_of_means"] is not None:
                means = [round(published[place], 3) for place in ("first_score", "second_score")]
                yield f"  {name} {means} {published['ratio_of_means']}"
