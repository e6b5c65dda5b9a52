"""Ask a model behind an OpenAI-compatible server to review answers: both orders, each paid for once.

A review whose verdict cannot be read is asked for once more, with what was wrong; then it is kept as unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from llavamed_cli.endpoint.asking import Asker, check_endpoint, form_requests, open_asker
from llavamed_cli.endpoint.estimate import estimate
from llavamed_cli.endpoint.journal import Answered
from llavamed_cli.endpoint.pacing import Patience
from llavamed_cli.endpoint.requests import CUT, EMPTY, TEMPERATURE, TORN, Message
from llavamed_cli.errors import LlavamedError
from llavamed_cli.evaluation.judge.options import JudgeOptions
from llavamed_cli.evaluation.judge.prompt import INSTRUCTION, REMINDER, Comparison, judge_prompt
from llavamed_cli.evaluation.judge.relative import summarise_reviews
from llavamed_cli.evaluation.judge.review import REFERENCE, Review, by_benchmark, review_record
from llavamed_cli.evaluation.scores import STRATA, ScoredAnswers
from llavamed_cli.files import write_jsonl
from llavamed_cli.progress import Progress
from llavamed_cli.records import Question

JOURNAL_FILE, REVIEWS_FILE = "judge.sqlite", "reviews.jsonl"
MOST_WRITTEN, LIKELY_WRITTEN = 1024, 150
"""Tokens of a review: room for a model that is not as short as it was asked to be."""
REVIEWS = "reviews"
MAY_BE_BETTER = (None, CUT, EMPTY, TORN)
"""Faults of an answer that a second one need not have; a refusal stays one."""
_ENDPOINT_OPTION = re.compile(r"--(?=(?:budget|price|base-url)\b)")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """by_benchmark: scores.json's "judge" of each; see relative.py. spent: requests, tokens and US dollars."""

    by_benchmark: dict[str, dict[str, Any]]
    spent: dict[str, Any]


@dataclass(frozen=True)
class _Asked:
    """A comparison to be asked about; again: what the first review was, None for the first time."""

    comparison: Comparison
    again: Answered | None = None


def check_judge(options: JudgeOptions) -> None:
    """Find beforehand what would stop the judge at once. Raises UsageError."""
    with _judge_options():
        check_endpoint(options)


def judge_answers(
    options: JudgeOptions,
    results: Mapping[str, Mapping[str, ScoredAnswers]],
    out: Path,
    progress: Progress,
    *,
    seed: int,
    patience: Patience | None = None,
) -> Judgement:
    """Have the open questions' answers reviewed, against the reference answer and against each other's.

    Writes OUT/reviews.jsonl, once all is reviewed; what is paid for lies in OUT/judge.sqlite from the start.

    Args:
        results: benchmark -> answerer -> every question with its answer.

    Raises:
        UsageError: see `check_judge`. EndpointError: the server fails for good, or the budget is reached.
        KeyboardInterrupt: what was in flight has been awaited.
    """
    comparisons = [one for title, answered in results.items() for one in compare_all(title, answered)]
    if not comparisons:
        progress.note("no question is open: there is nothing to judge")
        return Judgement(by_benchmark={}, spent={})
    with _judge_options():
        form = form_requests(options, _messages, most_written=MOST_WRITTEN, likely_written=LIKELY_WRITTEN)
        with open_asker(options, form, out / JOURNAL_FILE, progress, noun=REVIEWS, patience=patience) as asker:
            reviews = _review_all(asker, comparisons, progress)
            spent, server = asker.purse.spent(), asker.endpoint.told
    write_jsonl(out / REVIEWS_FILE, map(review_record, reviews))
    progress.note(f"judge {options.name}: {spent['told']}")
    about = {
        "model": options.name,
        "server": server,
        "temperature": None if form.reasoning else TEMPERATURE,
        "prompt": {"instruction": INSTRUCTION, "reminder": REMINDER},
    }
    judged = {title: {**about, **summarise_reviews(own, seed)} for title, own in by_benchmark(reviews).items()}
    return Judgement(by_benchmark=judged, spent=spent)


def compare_all(title: str, answered: Mapping[str, ScoredAnswers]) -> Iterator[Comparison]:
    """Every open question's answers, the reference's with each answerer's and each two answerers', in both orders."""
    everyone = {REFERENCE: None, **answered}
    for first, second in combinations(everyone, 2):
        texts, others = everyone[first], answered[second]
        for place, question in enumerate(others.questions):
            if question.answer_type == "open":
                one = question.answer if texts is None else texts.answers[place].text
                pair = one, others.answers[place].text
                for swapped in (False, True):
                    yield Comparison(
                        benchmark=title, question=question, first=first, second=second, answers=pair, swapped=swapped
                    )


def _review_all(asker: Asker[_Asked], comparisons: Sequence[Comparison], progress: Progress) -> list[Review]:
    """The reviews in the comparisons' order."""
    model = asker.endpoint.model
    first = [_Asked(comparison) for comparison in comparisons]
    needed = estimate(first, asker.form, asker.journal, asker.purse.price, REVIEWS)
    progress.note(
        f"judge {model} at {asker.endpoint.told} reads questions, captions and answers, and sees no picture: "
        f"{needed.text()}"
    )
    reviews = [_review(*one) for one in _asked(asker, first, f"judge {model}", progress)]
    again = {
        place: _Asked(comparisons[place], Answered(text=review.text, fault=review.fault))
        for place, review in enumerate(reviews)
        if review.verdict is None and review.fault in MAY_BE_BETTER
    }
    if again:
        asked = _asked(asker, list(again.values()), f"judge {model}, once more", progress)
        for place, (one, answered) in zip(again, asked, strict=True):
            reviews[place] = _review(one, answered)
    return reviews


def _asked(
    asker: Asker[_Asked], items: Sequence[_Asked], label: str, progress: Progress
) -> Iterator[tuple[_Asked, Answered]]:
    with progress.bar(label, len(items)) as bar:
        for item, answered in zip(items, asker.answers(items), strict=True):
            bar.advance()
            yield item, answered


def _messages(asked: _Asked) -> list[Message]:
    """The prompt; the second time, what came of it as well, and what was wrong with that."""
    prompt = judge_prompt(asked.comparison)
    if asked.again is None:
        return [{"role": "user", "content": prompt}]
    if asked.again.text is None:
        return [{"role": "user", "content": f"{prompt}\n\n{REMINDER}"}]
    return [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": asked.again.text},
        {"role": "user", "content": REMINDER},
    ]


def _review(asked: _Asked, answered: Answered) -> Review:
    comparison = asked.comparison
    return Review(
        question_id=comparison.question.id,
        benchmark=comparison.benchmark,
        picture=comparison.question.image,
        first=comparison.first,
        second=comparison.second,
        swapped=comparison.swapped,
        text=answered.text,
        fault=answered.fault,
        retried=asked.again is not None,
        strata=_strata(comparison.question),
    )


def _strata(question: Question) -> dict[str, tuple[str, ...]]:
    found = {name: tuple(value for value in values(question) if value) for name, values in STRATA.items()}
    return {name: values for name, values in found.items() if values}


@contextmanager
def _judge_options() -> Iterator[None]:
    """Faults that name the endpoint room's options name the judge's instead."""
    try:
        yield
    except LlavamedError as error:
        error.what = _ENDPOINT_OPTION.sub("--judge-", error.what)
        error.where = _ENDPOINT_OPTION.sub("--judge-", error.where) if error.where else None
        error.hint = _ENDPOINT_OPTION.sub("--judge-", error.hint) if error.hint else None
        raise
