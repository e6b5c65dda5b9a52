"""From answers to scores.json: both score sets, on all questions and on every stratum, with intervals.

    scores.json = {"format", "seed", "answerers": {WHO: as typed}, "benchmarks": {TITLE: BENCHMARK}}
    BENCHMARK = {
      "benchmark": NAME:PATH as typed, "license", "citation", "notes": [sentence],
      "n", "open", "closed": questions; "pictures", "pictures_sha256": of their names and bytes
      "left_out": [{"where", "reason", "record_id"}]
      "contamination": [{"trained_on", "not_compared": why not, or null, "pictures", "unread": of training,
                         "tested", "same_bytes", "same_picture": of the benchmark's pictures,
                         "shared": [{"image", "training_picture", "by", "bits"}], the first 50}]
      "decoding": {WHO: in words}, "answerers": {WHO: SCORES}, "judge": see judge/relative.py, where there is one
      "differences": [{"first", "second", "overall", "open", "closed"}]   the mean of first - second, with "p"
    }
    SCORES = {
      "overall": {"n", "pictures", "small", "strict": {"accuracy": INTERVAL}},
      "open":    {"n", "pictures", "small", "reference": {METRIC: INTERVAL}, "strict": {METRIC: INTERVAL}},
      "closed":  the same,
      "absent":   questions without an answer: wrong under both score sets
      "verdicts": {"yes": {"yes", "no", "unparsed"}, "no": ...},   reference answer, then what was answered
      "detection": {"abnormality" and "presence": {"n", "pictures", "small", "tp", "fn", "unread_positive",
                    "tn", "fp", "unread_negative", "sensitivity": INTERVAL, "specificity": INTERVAL}},
      "by": {"question_type": {"PRES": {"overall", "open", "closed"}}, "organ": ..., "modality": ..., ...,
             "training_picture": {"seen", "unseen"}},   whether the picture stands in training data that is known here
      "strata": {"n", "small"}   how many strata "by" holds, and how many of them are small
    }
    INTERVAL = {"value", "low", "high"} in percent, and "p"; METRICs as reference.py and strict.py name them

A group without questions is left out; low, high and p are null where fewer than two pictures were asked about. "small"
is true under 30 pictures: such an interval is a rough one. Of many strata one in twenty lies outside its interval by
chance alone, and p is not corrected for the number of comparisons.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from llavamed_cli.evaluation.scoring.detection import DetectionKind, detection_kinds, says_positive
from llavamed_cli.evaluation.scoring.intervals import Interval, mean_intervals, paired_differences
from llavamed_cli.evaluation.scoring.scored_answers import KINDS, RIGHT, Scored, ScoredAnswers, score_answers
from llavamed_cli.evaluation.scoring.verdicts import asks_yes_or_no, yes_or_no
from llavamed_cli.records import Question

if TYPE_CHECKING:
    import numpy

__all__ = ["SCORES_FORMAT", "Scored", "ScoredAnswers", "compare", "score_answers", "summarise"]

SCORES_FORMAT = 2
"""Of scores.json: 2 since "small", "absent", "detection", "strata" and "p", and since BLEU is cumulative."""
DIGITS_KEPT = 6
SMALL = 30
"""Pictures under which a percentile bootstrap is a rough one."""
TOP = 100.0

STRATA: Mapping[str, Callable[[Question], tuple[str | None, ...]]] = {
    "question_type": lambda question: question.question_types,
    "organ": lambda question: (question.organ,),
    "modality": lambda question: (question.modality,),
    "phrasing": lambda question: (question.phrasing,),
    "language": lambda question: (question.language,),
}


def summarise(scored: ScoredAnswers, seed: int, seen: Collection[str] = ()) -> dict[str, Any]:
    """The scores of one answerer on one benchmark, as the module's docstring lays them out.

    Args:
        seen: images that stand in training data too; the stratum "training_picture" holds them apart.
    """
    by = _strata(scored, seed, seen)
    blocks = [block["overall"] for strata in by.values() for block in strata.values()]
    return {
        **_groups(scored, None, seed),
        "absent": scored.absent,
        "verdicts": _verdicts(scored),
        "detection": _detection(scored, seed),
        "by": by,
        "strata": {"n": len(blocks), "small": sum(block["small"] for block in blocks)},
    }


def compare(first: ScoredAnswers, second: ScoredAnswers, seed: int) -> dict[str, Any]:
    """The mean of first - second over the same questions in the same order: "overall", "open" and "closed"."""
    ours, theirs = _columns(first, None), _columns(second, None)
    return {
        name: _block(paired_differences(columns, theirs[name][0], pictures, seed=seed), tested=True)
        for name, (columns, pictures) in ours.items()
    }


def _groups(scored: ScoredAnswers, rows: numpy.ndarray | None, seed: int) -> dict[str, Any]:
    return {
        name: _block(mean_intervals(columns, pictures, seed=seed, top=TOP))
        for name, (columns, pictures) in _columns(scored, rows).items()
    }


Columns = dict[str, tuple[dict[str, "numpy.ndarray"], "numpy.ndarray"]]
"""Group -> its metrics, and the picture of each question."""


def _columns(scored: ScoredAnswers, rows: numpy.ndarray | None) -> Columns:
    """All questions, the open and the closed ones, of some rows or of all; groups without questions are left out."""
    import numpy as np

    chosen = np.arange(len(scored)) if rows is None else rows
    groups: Columns = {"overall": ({RIGHT: scored.right[chosen]}, scored.pictures[chosen])}
    for kind in KINDS:
        of_kind = chosen[scored.is_open[chosen] == (kind == "open")]
        if not len(of_kind):
            continue
        table, places = scored.tables[kind], scored.places[of_kind]
        whole = len(places) == len(table)
        columns = {
            name: table[:, number] if whole else table[places, number]
            for number, name in enumerate(scored.metrics[kind])
        }
        groups[kind] = (columns, scored.pictures[of_kind])
    return groups


def _block(intervals: Mapping[str, Interval], *, tested: bool = False) -> dict[str, Any]:
    one = next(iter(intervals.values()))
    block: dict[str, Any] = _size(one)
    for name, interval in intervals.items():
        score_set, metric = name.split(".")
        block.setdefault(score_set, {})[metric] = _plain(interval, tested=tested)
    return block


def _size(interval: Interval) -> dict[str, Any]:
    return {"n": interval.n, "pictures": interval.clusters, "small": interval.clusters < SMALL}


def _plain(interval: Interval, *, tested: bool = False) -> dict[str, float | None]:
    numbers = {"value": interval.value, "low": interval.low, "high": interval.high}
    if tested:
        numbers["p"] = interval.p
    return {name: None if number is None else round(number, DIGITS_KEPT) for name, number in numbers.items()}


def _verdicts(scored: ScoredAnswers) -> dict[str, dict[str, int]]:
    """How often each reference answer, yes or no, was answered yes, no, or neither."""
    counts: Counter[tuple[str, str]] = Counter(
        (asks_yes_or_no(question.answer), yes_or_no(answer.text))
        for question, answer in zip(scored.questions, scored.answers, strict=True)
        if question.answer_type == "closed"
    )
    return {
        truth: {verdict: counts[truth, verdict] for verdict in ("yes", "no", "unparsed")} for truth in ("yes", "no")
    }


def _detection(scored: ScoredAnswers, seed: int) -> dict[str, Any]:
    """Sensitivity and specificity on the questions of each kind; an answer that cannot be read is wrong."""
    rows: dict[DetectionKind, list[tuple[int, bool, bool | None]]] = defaultdict(list)
    for place, (question, answer) in enumerate(zip(scored.questions, scored.answers, strict=True)):
        for kind in detection_kinds(question):
            truth = says_positive(kind, question, question.answer)
            if truth is not None:
                rows[kind].append((place, truth, says_positive(kind, question, answer.text)))
    return {kind: _detected(scored, rows[kind], seed) for kind in sorted(rows)}


def _detected(scored: ScoredAnswers, rows: list[tuple[int, bool, bool | None]], seed: int) -> dict[str, Any]:
    counts = Counter((truth, said) for _, truth, said in rows)
    pictures = len({int(scored.pictures[place]) for place, _, _ in rows})
    block: dict[str, Any] = {"n": len(rows), "pictures": pictures, "small": pictures < SMALL}
    for truth, right, wrong, unread in ((True, "tp", "fn", "unread_positive"), (False, "tn", "fp", "unread_negative")):
        block |= {right: counts[truth, truth], wrong: counts[truth, not truth], unread: counts[truth, None]}
    for truth, title in ((True, "sensitivity"), (False, "specificity")):
        own = [(place, TOP * (said == truth)) for place, real, said in rows if real == truth]
        if own:
            places, hits = zip(*own, strict=True)
            interval = mean_intervals({title: hits}, scored.pictures[list(places)], seed=seed, top=TOP)[title]
            block[title] = {**_size(interval), **_plain(interval)}
    return block


def _strata(scored: ScoredAnswers, seed: int, seen: Collection[str]) -> dict[str, dict[str, Any]]:
    """The groups of every stratum, for the properties in which the questions differ; a question may be in several."""
    import numpy as np

    result: dict[str, dict[str, Any]] = {}
    training = {"training_picture": lambda question: ("seen" if question.image in seen else "unseen",)}
    for property_name, values in {**STRATA, **training}.items():
        rows: dict[str, array[int]] = defaultdict(lambda: array("q"))
        for place, question in enumerate(scored.questions):
            for name in values(question):
                if name:
                    rows[name].append(place)
        if len(rows) > 1:
            result[property_name] = {
                name: _groups(scored, np.frombuffer(rows[name], dtype=np.int64), seed) for name in sorted(rows)
            }
    return result
