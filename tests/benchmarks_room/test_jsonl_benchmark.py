"""A benchmark as JSON Lines: what may be left out, and that every bad line is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.benchmarks.jsonl import jsonl_answers, read_jsonl_benchmark
from llavamed_cli.errors import DataError

GOOD: dict[str, Any] = {"id": 1, "image": "a.png", "question": "Is it?", "answer": "Yes."}


def write(folder: Path, *lines: str | dict[str, Any]) -> Path:
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    file = folder / "bench.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def test_answer_type_is_inferred_where_absent_and_believed_where_given(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        GOOD,
        {**GOOD, "id": 2, "answer": "left lung"},
        {**GOOD, "id": 3, "answer": "left", "answer_type": "CLOSED", "question_type": ["POS", "ABN"], "organ": "CHEST"},
    )
    read = read_jsonl_benchmark(file, tmp_path)
    assert [q.answer_type for q in read.questions] == ["closed", "open", "closed"]
    assert read.questions[2].question_types == ("ABN", "POS")
    assert read.questions[2].organ == "CHEST"
    assert read.notes == (
        "3 questions on 1 picture, 1 open and 2 closed.",
        "2 questions state no answer_type: those answered yes or no count as closed.",
    )


def test_marker_in_a_question_is_dropped(tmp_path: Path) -> None:
    (question,) = read_jsonl_benchmark(write(tmp_path, {**GOOD, "question": "Is it?\n<image>"}), tmp_path).questions
    assert question.text == "Is it?"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ({**GOOD, "id": None}, "no `id`"),
        (GOOD, "occurs twice"),
        ({**GOOD, "id": 2, "image": "b.png"}, "is not in"),
        ({**GOOD, "id": 2, "question": 7.5, "answer": []}, "answer must be text"),
    ],
)
def test_bad_line_is_named_by_file_and_line(tmp_path: Path, line: Any, reason: str) -> None:
    file = write(tmp_path, GOOD, line)
    read = read_jsonl_benchmark(file, tmp_path)
    assert [q.id for q in read.questions] == ["1"]
    (fault,) = read.faults
    assert fault.where == f"{file}:2" and reason in fault.reason


def test_training_answers_need_no_picture_and_no_broken_line(tmp_path: Path) -> None:
    file = write(tmp_path, {"answer": "yes"}, {"answer": "liver"})
    assert jsonl_answers(file) == (("closed", "yes"), ("open", "liver"))
    with pytest.raises(DataError, match=r"bench\.jsonl:1: not JSON"):
        jsonl_answers(write(tmp_path, "{"))
