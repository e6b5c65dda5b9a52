"""Reviews as records, and as the JSON Lines that LLaVA-Med's summariser reads.

    {"question_id", "type", "domain": {"chest_xray": true ...}, "gpt_eval"}     LLaVA-Med v1.5
    {"question_id", "category", "tuple": [8.0, 7.0]}                            LLaVA-Med v1.0; [-1, -1] was unreadable
    {"question_id", "benchmark", "image", "type", "domain", "strata", "pair", "assistant_1", "assistant_2", "gpt_eval",
     "fault", "retried"}                                                        reviews.jsonl, ours: v1.5's and more

The published files have one order, the reference answer first, and do not name the picture: there each question counts
as a picture of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.llava_med_chat import DOMAINS
from llavamed_cli.benchmarks.reading import text_id
from llavamed_cli.endpoint.requests import CUT
from llavamed_cli.errors import DataError
from llavamed_cli.evaluation.judge.prompt import HIGHEST, LOWEST
from llavamed_cli.evaluation.judge.verdict import Verdict, read_published, read_verdict
from llavamed_cli.files import read_jsonl
from llavamed_cli.records import Fault

REFERENCE, ANSWER = "reference answer", "answer"
"""Who is compared, where a file does not say: the stored answer comes first. Nobody who answers can be called so."""
NOT_TWO_NUMBERS, NOT_RATINGS = "the first line is not two numbers from 1 to 10", "stored ratings are not from 1 to 10"
FAILED: Verdict = (-1.0, -1.0)
"""What v1.0 stored of a review that it could not read."""

Strata = Mapping[str, tuple[str, ...]]
"""Of a question: property -> its values, such as "question_type" -> ("conversation",)."""


@dataclass(frozen=True, kw_only=True)
class Review:
    """What a judge wrote of two answers.

    picture: what is resampled; None where it is not known, and the question is taken for it.
    first, second: who was compared; swapped: the second one's answer stood first.
    text: None where there is none, and `fault` says why; a fault beside a text says what is amiss with it.
    stored: ratings, where a file keeps them in place of the text. retried: it is the second one asked for.
    """

    question_id: str
    benchmark: str
    picture: str | None
    first: str
    second: str
    swapped: bool
    text: str | None
    fault: str | None = None
    stored: Verdict | None = None
    retried: bool = False
    strata: Strata = field(default_factory=dict)

    @property
    def cluster(self) -> str:
        """What is resampled."""
        return f"question {self.question_id}" if self.picture is None else self.picture

    @property
    def verdict(self) -> Verdict | None:
        """The ratings of (first, second), whichever stood where; None where they cannot be read, strictly."""
        if self.stored is not None:
            ratings = self.stored if all(LOWEST <= rating <= HIGHEST for rating in self.stored) else None
        else:
            ratings = None if self.text is None else read_verdict(self.text, cut=self.fault == CUT)
        return (ratings[1], ratings[0]) if ratings and self.swapped else ratings

    @property
    def published(self) -> Verdict | None:
        """As `verdict`; where that cannot be read, as the published summaries read it."""
        if (ratings := self.verdict) is not None:
            return ratings
        ratings = self.stored or (None if self.text is None else read_published(self.text))
        if ratings is None or ratings[0] == 0:
            return None
        return (ratings[1], ratings[0]) if self.swapped else ratings

    @property
    def why_unreadable(self) -> str | None:
        """One of few reasons; None where it is readable."""
        if self.verdict is not None:
            return None
        if self.stored is not None:
            return NOT_RATINGS
        return NOT_TWO_NUMBERS if self.text is not None else self.fault


def review_record(review: Review) -> dict[str, Any]:
    """The review as a line of reviews.jsonl."""
    kinds, modalities = review.strata.get("question_type", ()), review.strata.get("modality", ())
    places = (review.second, review.first) if review.swapped else (review.first, review.second)
    return {
        "question_id": review.question_id,
        "benchmark": review.benchmark,
        "image": review.picture,
        "type": kinds[0] if kinds else None,
        "domain": {name: name in modalities for name in DOMAINS},
        "strata": {name: list(values) for name, values in review.strata.items()},
        "pair": [review.first, review.second],
        "assistant_1": places[0],
        "assistant_2": places[1],
        "gpt_eval": review.text,
        "fault": review.fault,
        "retried": review.retried,
    }


def read_reviews(file: Path) -> tuple[list[Review], list[Fault]]:
    """The reviews of a file in any of the three forms, and the lines that are none.

    Raises:
        UsageError: there is no such file. DataError: none of its lines is a review, or one is there twice.
    """
    faults: list[Fault] = []
    reviews: list[Review] = []
    lines: dict[tuple[str, ...], int] = {}
    for line, record in read_jsonl(file, faults.append):
        where = f"{file}:{line}"
        try:
            review = _review(record, line, file)
        except DataError as error:
            faults.append(Fault(where=where, reason=error.what, record_id=text_id(record.get("question_id"))))
            continue
        key = (review.benchmark, review.question_id, review.first, review.second, str(review.swapped))
        if key in lines:
            raise DataError(f"question {review.question_id} is reviewed twice, first in line {lines[key]}", where=where)
        lines[key] = line
        reviews.append(review)
    if not reviews:
        raise DataError(
            "no line is a review",
            where=str(faults[0]) if faults else str(file),
            hint="Expected JSON Lines with `question_id` and `gpt_eval`, or v1.0's `tuple`.",
        )
    return reviews, faults


def _review(record: Mapping[str, Any], line: int, file: Path) -> Review:
    identity = text_id(record.get("question_id"))
    if identity is None:
        raise DataError("no `question_id`")
    text, stored = record.get("gpt_eval"), _stored(record.get("tuple"))
    if stored is None and not (isinstance(text, str) or (text is None and isinstance(record.get("fault"), str))):
        raise DataError("`gpt_eval` is no text, and there is no `tuple`")
    first, second = _names(record.get("pair"))
    one = record.get("assistant_1", first)
    if one not in (first, second):
        raise DataError("`assistant_1` is neither of `pair`")
    benchmark, image = record.get("benchmark"), record.get("image")
    return Review(
        question_id=identity,
        benchmark=benchmark if isinstance(benchmark, str) else file.stem,
        picture=image if isinstance(image, str) else None,
        first=first,
        second=second,
        swapped=one == second,
        text=text if isinstance(text, str) else None,
        fault=record.get("fault") if isinstance(record.get("fault"), str) else None,
        stored=stored,
        retried=record.get("retried") is True,
        strata=_strata(record),
    )


def _stored(value: Any) -> Verdict | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 2 or any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        raise DataError("`tuple` is not two numbers")
    try:
        return float(numbers[0]), float(numbers[1])
    except OverflowError as error:
        raise DataError("`tuple` is not two numbers") from error


def _names(pair: Any) -> tuple[str, str]:
    if pair is None:
        return REFERENCE, ANSWER
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(name, str) for name in pair):
        raise DataError("`pair` is not two names")
    return pair[0], pair[1]


def _strata(record: Mapping[str, Any]) -> Strata:
    """Ours as they are; else the type (or v1.0's category), and the first domain that is true."""
    own = record.get("strata")
    if isinstance(own, dict):
        return {str(name): _texts(values) for name, values in own.items()}
    kind, domain = record.get("type", record.get("category")), record.get("domain")
    first = next((name for name in DOMAINS if domain.get(name) is True), None) if isinstance(domain, dict) else None
    found = {"question_type": (kind,) if isinstance(kind, str) else (), "modality": (first,) if first else ()}
    return {name: values for name, values in found.items() if values}


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(value for value in values if isinstance(value, str)) if isinstance(values, list) else ()


def finite(ratings: Verdict) -> bool:
    """Whether both are numbers that can be summed."""
    return all(math.isfinite(rating) for rating in ratings)


def by_benchmark(reviews: Iterable[Review]) -> dict[str, list[Review]]:
    """In the order in which they come."""
    return _grouped(reviews, lambda review: review.benchmark)


def by_pair(reviews: Iterable[Review]) -> dict[tuple[str, str], list[Review]]:
    """By who was compared, in the order in which they come."""
    return _grouped(reviews, lambda review: (review.first, review.second))


def _grouped(reviews: Iterable[Review], key: Callable[[Review], Any]) -> dict[Any, list[Review]]:
    groups: dict[Any, list[Review]] = {}
    for review in reviews:
        groups.setdefault(key(review), []).append(review)
    return groups
