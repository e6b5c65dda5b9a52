"""The questions of one run's benchmark: read, their pictures opened once to be sure of them, limited."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llavamed_cli.benchmarks.open_benchmark import BenchmarkName, read_benchmark
from llavamed_cli.benchmarks.reading import BenchmarkRead
from llavamed_cli.errors import DataError
from llavamed_cli.evaluation.plan import EvalPlan
from llavamed_cli.files import file_sha256, json_line
from llavamed_cli.model.images import unreadable_pictures
from llavamed_cli.progress import Progress
from llavamed_cli.records import Fault, Question

FAULTS_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class QuestionSet:
    """A benchmark ready to be asked.

    pictures_sha256: of all its pictures, limited or not. sha256: of these and of the questions that are asked.
    """

    title: str
    read: BenchmarkRead
    questions: tuple[Question, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    pictures_sha256: str
    sha256: str


def read_questions(title: str, name: BenchmarkName, pictures: Path, plan: EvalPlan, progress: Progress) -> QuestionSet:
    """Read a benchmark's test questions.

    Raises:
        DataError: questions cannot be asked and the plan does not skip them, or none is left.
    """
    read = read_benchmark(name, pictures=pictures, split="test", seed=plan.seed)
    wanted = read.questions[: plan.limit]
    bad = unreadable_pictures((question.picture for question in wanted), f"{title}: pictures", progress)
    unreadable = [
        Fault(where=str(q.picture), reason=bad[q.picture], record_id=q.id) for q in wanted if q.picture in bad
    ]
    faults = (*read.faults, *unreadable)
    if faults and plan.missing == "error":
        raise DataError(
            _refusal(faults), where=name.text, hint="Check --images, or leave these out with --missing skip."
        )
    questions = tuple(question for question in wanted if question.picture not in bad)
    if not questions:
        raise DataError("no question is left to ask", where=name.text)
    notes = list(read.notes)
    if plan.limit is not None and len(read.questions) > plan.limit:
        notes.append(f"Only the first {plan.limit} of {len(read.questions)} questions: not the benchmark's score.")
    if faults:
        notes.append(f"{len(faults)} question(s) left out, because they cannot be asked: not the benchmark's score.")
    pictures_sha256 = _pictures_sha256(read.questions)
    return QuestionSet(
        title=title,
        read=read,
        questions=questions,
        faults=faults,
        notes=tuple(notes),
        pictures_sha256=pictures_sha256,
        sha256=_sha256(questions, pictures_sha256),
    )


def _refusal(faults: Sequence[Fault]) -> str:
    lines = [f"{len(faults)} question(s) cannot be asked:", *(str(fault) for fault in faults[:FAULTS_NAMED])]
    if len(faults) > FAULTS_NAMED:
        lines.append(f"and {len(faults) - FAULTS_NAMED} more")
    return "\n    ".join(lines)


def _sha256(questions: Sequence[Question], pictures_sha256: str) -> str:
    digest = hashlib.sha256(pictures_sha256.encode())
    for question in questions:
        asked = (question.id, question.image, question.text, question.answer, question.answer_type)
        digest.update(json_line({"asked": asked}).encode())
    return digest.hexdigest()


def _pictures_sha256(questions: Sequence[Question]) -> str:
    digest = hashlib.sha256()
    for image, path in sorted({question.image: question.picture for question in questions}.items()):
        digest.update(f"{image}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()
