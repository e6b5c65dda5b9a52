"""From answers to scores.json: both score sets, on all questions and on every stratum, with intervals.

    scores of an answerer = {
      "overall": {"n", "pictures", "strict": {"accuracy": INTERVAL}},
      "open":    {"n", "pictures", "reference": {METRIC: INTERVAL}, "strict": {METRIC: INTERVAL}},
      "closed":  the same,
      "verdicts": {"yes": {"yes", "no", "unparsed"}, "no": ...},   reference answer, then what was answered
      "by": {"question_type": {"PRES": {"overall", "open", "closed"}}, "organ": ..., "modality": ..., ...}
    }
    INTERVAL = {"value", "low", "high"} in percent; METRICs as reference.py and strict.py name them

A group without questions is left out; low and high are null where fewer than two pictures were asked about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llavamed_cli.evaluation.scoring import reference, strict
from llavamed_cli.evaluation.scoring.intervals import Interval, mean_intervals, paired_differences
from llavamed_cli.records import Answer, Question

DIGITS_KEPT = 6

STRATA: Mapping[str, Callable[[Question], tuple[str | None, ...]]] = {
    "question_type": lambda question: question.question_types,
    "organ": lambda question: (question.organ,),
    "modality": lambda question: (question.modality,),
    "phrasing": lambda question: (question.phrasing,),
    "language": lambda question: (question.language,),
}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One question, its answer, and its scores in percent under both score sets."""

    question: Question
    answer: Answer
    reference: Mapping[str, float]
    strict: Mapping[str, float]

    @property
    def right(self) -> bool:
        """Whether the strict score takes the answer for right."""
        return self.strict["accuracy"] == 100


def score_answers(
    questions: Sequence[Question], answers: Mapping[str, Answer], candidates: Sequence[str]
) -> list[Scored]:
    """Score every question's answer. candidates: see `reference.score_open`."""
    scored = []
    for question in questions:
        answer = answers[question.id]
        if question.answer_type == "open":
            published = reference.score_open(answer.text, question.answer, candidates)
            own = strict.score_open(answer.text, question.answer)
        else:
            published = reference.score_closed(answer.text, question.answer)
            own = strict.score_closed(answer.text, question.answer)
        scored.append(Scored(question=question, answer=answer, reference=published, strict=own))
    return scored


def summarise(scored: Sequence[Scored], seed: int) -> dict[str, Any]:
    """The scores of one answerer on one benchmark, as the module's docstring lays them out."""
    return {**_groups(scored, seed), "verdicts": _verdicts(scored), "by": _strata(scored, seed)}


def compare(first: Sequence[Scored], second: Sequence[Scored], seed: int) -> dict[str, Any]:
    """The mean of first - second over the same questions: "overall", "open" and "closed" as in `summarise`."""
    ours, theirs = _split(first), _split(second)
    return {
        name: _block(
            paired_differences(
                _metrics(name, ours[name]), _metrics(name, theirs[name]), _pictures(ours[name]), seed=seed
            )
        )
        for name in ours
    }


def _groups(scored: Sequence[Scored], seed: int) -> dict[str, Any]:
    return {
        name: _block(mean_intervals(_metrics(name, group), _pictures(group), seed=seed))
        for name, group in _split(scored).items()
    }


def _split(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """All questions, the open and the closed ones; groups without questions are left out."""
    groups = {"overall": list(scored)}
    for kind in ("open", "closed"):
        groups[kind] = [one for one in scored if one.question.answer_type == kind]
    return {name: group for name, group in groups.items() if group}


def _metrics(group_name: str, group: Sequence[Scored]) -> dict[str, list[float]]:
    """Every metric of a group as "set.metric": its scores, in the group's order; overall has the one that all share."""
    if group_name == "overall":
        return {"strict.accuracy": [one.strict["accuracy"] for one in group]}
    first = group[0]
    columns = {f"reference.{name}": [one.reference[name] for one in group] for name in first.reference}
    return {**columns, **{f"strict.{name}": [one.strict[name] for one in group] for name in first.strict}}


def _pictures(group: Sequence[Scored]) -> list[str]:
    return [one.question.image for one in group]


def _block(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    one = next(iter(intervals.values()))
    block: dict[str, Any] = {"n": one.n, "pictures": one.clusters}
    for name, interval in intervals.items():
        score_set, metric = name.split(".")
        block.setdefault(score_set, {})[metric] = {
            "value": round(interval.value, DIGITS_KEPT),
            "low": None if interval.low is None else round(interval.low, DIGITS_KEPT),
            "high": None if interval.high is None else round(interval.high, DIGITS_KEPT),
        }
    return block


def _verdicts(scored: Sequence[Scored]) -> dict[str, dict[str, int]]:
    """How often each reference answer, yes or no, was answered yes, no, or neither."""
    counts: Counter[tuple[str, str]] = Counter(
        (strict.asks_yes_or_no(one.question.answer), strict.yes_or_no(one.answer.text))
        for one in scored
        if one.question.answer_type == "closed"
    )
    return {
        truth: {verdict: counts[truth, verdict] for verdict in ("yes", "no", "unparsed")} for truth in ("yes", "no")
    }


def _strata(scored: Sequence[Scored], seed: int) -> dict[str, dict[str, Any]]:
    """The groups of every stratum, for the properties in which the questions differ; a question may be in several."""
    result: dict[str, dict[str, Any]] = {}
    for property_name, values in STRATA.items():
        names = sorted({name for one in scored for name in values(one.question) if name})
        if len(names) > 1:
            result[property_name] = {
                name: _groups([one for one in scored if name in values(one.question)], seed) for name in names
            }
    return result
