"""`llavamed eval compare A B`: two finished folders, question by question, without a model and without pictures.

Both are scored anew with this version's rules, over the questions that both asked: the same id, words, picture and
reference answer. Every answerer of A is held against every one of B.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.evaluation.question_file import read_written_questions
from llavamed_cli.evaluation.scores import SCORES_FORMAT, ScoredAnswers, compare, score_answers, summarise
from llavamed_cli.evaluation.table import shorten
from llavamed_cli.files import read_json, read_jsonl
from llavamed_cli.records import Answer, Fault, Question
from llavamed_cli.run_record import RUN_FILE

NAMED = 28
"""Letters of an answerer's name in a line about two."""
NO_ANSWER = "this is no answer as eval writes it"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished folder. scores: its scores.json; answers: by benchmark, answerer and question id."""

    folder: Path
    scores: Mapping[str, Any]
    answers: Mapping[str, Mapping[str, Mapping[str, Answer]]]

    def questions(self, title: str) -> dict[str, Question]:
        """What was asked of one benchmark, by id."""
        return {question.id: question for question in read_written_questions(self.folder, title)}


def compare_runs(first: Path, second: Path, seed: int) -> dict[str, Any]:
    """The scores of both over what both asked, and their differences, laid out as scores.json is.

    In addition: "compared": [A, B], and in each difference "right": {"both", "first", "second", "neither"}, how many
    questions who had right (strict). Reference scores that need training answers are left out.

    Raises:
        UsageError: a folder is no finished evaluation, or they have no benchmark in common.
        DataError: a folder is damaged, or no question is the same.
    """
    ours, theirs = read_finished(first), read_finished(second)
    titles = [title for title in ours.scores["benchmarks"] if title in theirs.scores["benchmarks"]]
    if not titles:
        raise UsageError(
            f"they have no benchmark in common: {_listed(ours)} in {first}, {_listed(theirs)} in {second}",
            hint="Compare runs that were given the same --on.",
        )
    names = _names(ours, theirs)
    return {
        "format": SCORES_FORMAT,
        "seed": seed,
        "compared": [str(first), str(second)],
        "answerers": {
            label: run.scores["answerers"][who]
            for run, own in zip((ours, theirs), names, strict=True)
            for who, label in own.items()
        },
        "benchmarks": {title: _benchmark(title, ours, theirs, names, seed) for title in titles},
    }


def right_lines(scores: Mapping[str, Any]) -> Iterator[str]:
    """For a terminal of 80 columns: of each pair, on how many questions the two part ways (strict)."""
    for title, read in scores["benchmarks"].items():
        for pair in read["differences"]:
            right = pair["right"]
            yield f"{title}: {shorten(pair['first'], NAMED)} and {shorten(pair['second'], NAMED)}"
            yield (
                f"  right: both {right['both']}, first alone {right['first']}, second alone {right['second']}, "
                f"neither {right['neither']}"
            )


def read_finished(folder: Path) -> Finished:
    """Read a finished folder. Raises UsageError, DataError."""
    if not (folder / RUN_FILE).is_file():
        raise UsageError("this is no folder that `llavamed eval` wrote", where=str(folder))
    record = read_json(folder / RUN_FILE, "run record")
    if not isinstance(record, dict) or record.get("command") != "eval":
        raise UsageError("this folder is another command's", where=str(folder), hint="Name two folders of eval's.")
    if record.get("status") != "finished":
        raise UsageError("this evaluation is not finished", where=str(folder), hint="Repeat its command; it goes on.")
    scores = read_json(folder / "scores.json", "scores")
    if not isinstance(scores, dict) or scores.get("format") != SCORES_FORMAT:
        raise DataError(f"scores.json is not of format {SCORES_FORMAT}", where=str(folder), hint="Evaluate anew.")
    if not _is_whole(scores):
        raise DataError("scores.json does not say who answered what", where=str(folder), hint="Evaluate anew.")
    return Finished(folder=folder, scores=scores, answers=_answers(folder / "answers.jsonl"))


def _is_whole(scores: Mapping[str, Any]) -> bool:
    """Whether what is read of it here is there; the scores themselves are computed anew."""
    answerers, benchmarks = scores.get("answerers"), scores.get("benchmarks")
    return (
        isinstance(answerers, dict)
        and isinstance(benchmarks, dict)
        and all(isinstance(typed, str) for typed in answerers.values())
        and all(isinstance(read, dict) and isinstance(read.get("benchmark"), str) for read in benchmarks.values())
    )


def _answers(file: Path) -> dict[str, dict[str, dict[str, Answer]]]:
    def refuse(fault: Fault) -> None:
        raise DataError(fault.reason, where=fault.where)

    found: dict[str, dict[str, dict[str, Answer]]] = {}
    for line, record in read_jsonl(file, refuse):
        try:
            title, who, identity = record["metadata"]["benchmark"], record["model_id"], record["question_id"]
            text, confidence = record["text"], record.get("confidence")
        except (KeyError, TypeError) as error:
            raise DataError(NO_ANSWER, where=f"{file}:{line}") from error
        if not all(isinstance(part, str) for part in (title, who, identity, "" if text is None else text)):
            raise DataError(NO_ANSWER, where=f"{file}:{line}")
        if text is not None:
            own = found.setdefault(title, {}).setdefault(who, {})
            own[identity] = Answer(question_id=identity, text=text, confidence=confidence)
    return found


def _names(ours: Finished, theirs: Finished) -> tuple[dict[str, str], dict[str, str]]:
    """Of each folder's answerers: what they are called beside the other's."""
    labels = [run.folder.resolve().name for run in (ours, theirs)]
    if labels[0] == labels[1]:
        labels = ["A", "B"]
    first, second = (
        {who: f"{label}/{who}" for who in run.scores["answerers"]}
        for label, run in zip(labels, (ours, theirs), strict=True)
    )
    return first, second


def _benchmark(
    title: str, ours: Finished, theirs: Finished, names: Sequence[Mapping[str, str]], seed: int
) -> dict[str, Any]:
    asked, also = ours.questions(title), theirs.questions(title)
    both = [question for identity, question in asked.items() if _same(question, also.get(identity))]
    if not both:
        raise DataError(f"of {title}, no question is the same in both", where=str(theirs.folder))
    scored = [
        {label: score_answers(both, run.answers.get(title, {}).get(who, {})) for who, label in own.items()}
        for run, own in zip((ours, theirs), names, strict=True)
    ]
    kinds = [question.answer_type for question in both]
    return {
        "benchmark": ours.scores["benchmarks"][title]["benchmark"],
        "n": len(both),
        "open": kinds.count("open"),
        "closed": kinds.count("closed"),
        "pictures": len({question.image for question in both}),
        "notes": _notes(title, ours, theirs, asked, also, len(both)),
        "answerers": {label: summarise(own, seed) for part in scored for label, own in part.items()},
        "differences": [
            {"first": one, "second": other, **compare(left, right, seed), "right": _right(left, right)}
            for one, left in scored[0].items()
            for other, right in scored[1].items()
        ],
    }


def _same(question: Question, other: Question | None) -> bool:
    return other is not None and all(
        getattr(question, name) == getattr(other, name) for name in ("text", "answer", "answer_type", "image")
    )


def _notes(
    title: str, ours: Finished, theirs: Finished, asked: Mapping[str, Question], also: Mapping[str, Question], both: int
) -> list[str]:
    notes = []
    for run, own in ((ours, asked), (theirs, also)):
        if len(own) > both:
            apart = f"{len(own) - both} of {len(own)} questions in {run.folder}"
            notes.append(f"{apart} are absent from the other, or differ there.")
    digests = {run.scores["benchmarks"][title].get("pictures_sha256") for run in (ours, theirs)}
    if len(digests) > 1:
        notes.append("The pictures that were asked about differ in their bytes.")
    return notes


def _right(first: ScoredAnswers, second: ScoredAnswers) -> dict[str, int]:
    ours, theirs = first.right == 100, second.right == 100
    return {
        "both": int((ours & theirs).sum()),
        "first": int((ours & ~theirs).sum()),
        "second": int((~ours & theirs).sum()),
        "neither": int((~ours & ~theirs).sum()),
    }


def _listed(run: Finished) -> str:
    return ", ".join(run.scores["benchmarks"])
