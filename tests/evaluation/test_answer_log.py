"""The answer log: an interrupted run that goes on ends with the file that an uninterrupted run leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from llavamed_cli.errors import DataError
from llavamed_cli.evaluation.answer_log import answer_all
from llavamed_cli.progress import Silent
from llavamed_cli.records import Answer, Question

QUESTIONS = [
    Question(id=str(n), image="a.png", picture=Path("a.png"), text=f"Q{n}?", answer="yes", answer_type="closed")
    for n in range(7)
]


class Counting:
    """Answers with the batch it was asked in, as padding may change a real answer; stops when told."""

    decoding = "counted"

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked: list[list[str]] = []
        self.stop_at = stop_at

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        return [tuple(questions[start : start + 3]) for start in range(0, len(questions), 3)]

    def prompt(self, question: Question) -> str:
        return question.text

    def answer(self, batch: Sequence[Question]) -> list[Answer]:
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append([question.id for question in batch])
        return [Answer(question_id=q.id, text=f"{q.id} of {len(batch)}", confidence=0.5) for q in batch]


def run(log: Path, answerer: Counting) -> dict[str, Answer]:
    return answer_all(answerer, QUESTIONS, log, who="me", benchmark="b", progress=Silent())


@pytest.mark.parametrize("cut", [0, 1, 60, 150])
def test_a_resumed_log_equals_an_uninterrupted_one(tmp_path: Path, cut: int) -> None:
    whole = tmp_path / "whole.jsonl"
    answers = run(whole, Counting())
    log = tmp_path / "torn.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(log, Counting(stop_at=2))
    written = log.read_bytes()
    log.write_bytes(written[: len(written) - cut])
    again = Counting()
    assert run(log, again) == answers
    assert log.read_bytes() == whole.read_bytes()
    assert ["0", "1", "2"] not in again.asked
    done = Counting()
    assert run(log, done) == answers
    assert done.asked == []


@pytest.mark.parametrize(
    ("line", "told"),
    [("nonsense", "not JSON"), ('{"question_id": 1, "text": "a"}', "no answer"), ('{"question_id": "1"}', "no answer")],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, told: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(f"{line}\n")
    with pytest.raises(DataError, match=rf"log\.jsonl:1: .*{told}"):
        run(log, Counting())
