"""Majority, a file of answers, and how answerers are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.evaluation.answerers.answerer import parse_who
from llavamed_cli.evaluation.answerers.answers_file import AnswersFile
from llavamed_cli.evaluation.answerers.majority import Majority
from llavamed_cli.progress import Silent
from llavamed_cli.records import AnswerType, Question


def question(identity: str, image: str = "a.png", text: str = "Is it?", kind: AnswerType = "closed") -> Question:
    return Question(id=identity, image=image, picture=Path(image), text=text, answer="yes", answer_type=kind)


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def test_majority_counts_spellings_as_one_and_breaks_ties_by_the_alphabet() -> None:
    known = [("closed", "No"), ("closed", "no"), ("closed", "no"), ("closed", "yes"), ("closed", "Yes")]
    majority = Majority([*known, ("open", "liver"), ("open", "axial")])  # type: ignore[list-item]
    answers = majority.answer([question("1"), question("2", kind="open")])
    assert [answer.text for answer in answers] == ["no", "axial"]


def test_majority_without_training_answers_is_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match="--train FILE"):
        Majority(())


def write_answers(folder: Path, *records: Any) -> Path:
    file = folder / "theirs.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_answers_are_found_by_id_and_surplus_ones_named(tmp_path: Path) -> None:
    file = write_answers(
        tmp_path, {"question_id": 2, "text": "no", "confidence": 0.5}, {"question_id": "x9", "text": "yes"}
    )
    notes = Notes()
    found = AnswersFile(file, [question("2")], "error", notes).answer([question("2")])
    assert (found[0].text, found[0].confidence) == ("no", 0.5)
    assert "1 answer(s) to questions that are not asked: x9" in notes.said[0]


def test_absent_answers_are_named_and_refused_or_wrong(tmp_path: Path) -> None:
    file = write_answers(tmp_path, {"question_id": "1", "text": "no"})
    asked = [question(str(number)) for number in range(1, 14)]
    with pytest.raises(DataError, match=r"12 of 13 questions have no answer: 2, 3, .*, 11 and 2 more"):
        AnswersFile(file, asked, "error", Silent())
    notes = Notes()
    answers = AnswersFile(file, asked, "skip", notes).answer(asked)
    assert [answer and answer.text for answer in answers] == ["no"] + [None] * 12
    assert "count as wrong" in notes.said[0]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"question_id": "1"}], r"theirs\.jsonl:1: expected `question_id` and `text`"),
        ([{"question_id": "1", "text": "a"}, {"question_id": 1, "text": "b"}], "answered twice, first in line 1"),
        ([3], r"theirs\.jsonl:1: expected an object"),
    ],
)
def test_broken_answers_are_named_by_line(tmp_path: Path, records: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        AnswersFile(write_answers(tmp_path, *records), [question("1")], "error", Silent())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("majorty", "Did you mean majority"),
        ("./nowhere", "no such model folder"),
        ("blind:majority", "majority has no blind twin"),
        ("answers:absent.jsonl", "does not exist"),
        ("gpt:4", "Expected a model folder"),
    ],
)
def test_what_is_no_answerer_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_who(text)


def test_a_folder_without_a_model_is_refused_before_work_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.json"):
        parse_who(str(tmp_path))
    (tmp_path / "config.json").touch()
    assert parse_who(f"blind:{tmp_path}").model == str(tmp_path)
    assert parse_who("someone/model").model == "someone/model"
