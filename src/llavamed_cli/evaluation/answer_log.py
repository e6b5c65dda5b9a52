"""answers.jsonl: answers appended and flushed as they come, so that an interrupted run goes on where it stopped.

LLaVA's answer format, one a line: {"question_id", "prompt", "text", "answer_id", "model_id", "metadata"}, and
"confidence". A line that was cut off by an interruption is removed when the file is opened again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from llavamed_cli.errors import DataError
from llavamed_cli.evaluation.answerers.answerer import Answerer, AsksAlone
from llavamed_cli.files import cut_torn_line, json_line, read_jsonl
from llavamed_cli.progress import Progress
from llavamed_cli.records import Answer, Fault, Question

ANSWER_ID_LENGTH = 22  # as long as the short UUIDs that LLaVA writes


def answer_all(
    answerer: Answerer, questions: Sequence[Question], log: Path, *, who: str, benchmark: str, progress: Progress
) -> dict[str, Answer]:
    """Answer what `log` does not answer yet, and return the answers by question id; one may be absent.

    A batch is asked whole even where an interruption left part of its answers, so that these are what an uninterrupted
    run gives; except of one who AsksAlone.

    Raises:
        DataError: the log is damaged elsewhere than at its end.
    """
    answers = _resume(log)
    with log.open("a", encoding="utf-8") as stream, progress.bar(who, len(questions), done=len(answers)) as bar:
        for batch in answerer.batches(questions):
            todo = [question for question in batch if question.id not in answers]
            if not todo:
                continue
            asked = todo if isinstance(answerer, AsksAlone) else batch
            for question, answer in zip(asked, answerer.answer(asked), strict=True):
                if question.id in answers:
                    continue
                if answer is not None:
                    answers[question.id] = answer
                    stream.write(json_line(_record(answer, answerer.prompt(question), who, benchmark)))
                    stream.flush()
                bar.advance()
    return answers


def _resume(log: Path) -> dict[str, Answer]:
    """The answers of an earlier, interrupted run; a torn last line is cut off."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if not log.exists():
        return {}
    cut_torn_line(log)

    def refuse(fault: Fault) -> NoReturn:
        raise DataError(fault.reason, where=fault.where, hint="Delete this file to answer anew.")

    answers = {}
    for line, record in read_jsonl(log, refuse):
        identity, text = record.get("question_id"), record.get("text")
        if not isinstance(identity, str) or not isinstance(text, str):
            refuse(Fault(where=f"{log}:{line}", reason="this is no answer as eval writes it"))
        answers[identity] = Answer(question_id=identity, text=text, confidence=record.get("confidence"))
    return answers


def _record(answer: Answer, prompt: str, who: str, benchmark: str) -> dict[str, Any]:
    digest = hashlib.sha256("\0".join((who, benchmark, answer.question_id)).encode()).hexdigest()
    return {
        "question_id": answer.question_id,
        "prompt": prompt,
        "text": answer.text,
        "answer_id": digest[:ANSWER_ID_LENGTH],
        "model_id": who,
        "metadata": {"benchmark": benchmark},
        "confidence": answer.confidence,
    }
