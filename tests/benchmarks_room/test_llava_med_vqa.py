"""LLaVA-Med's VQA files: the misspelt key, integers, and open or closed where nothing says which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.benchmarks.llava_med_vqa import llava_med_vqa_answers, read_llava_med_vqa
from llavamed_cli.benchmarks.open_benchmark import parse_benchmark
from llavamed_cli.errors import DataError, UsageError

Make = Callable[..., Path]


def record(identity: Any, answer: Any, key: str = "conversations", **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "Is it a lung?\n<image>"}, {"from": "gpt", "value": answer}]
    return {"id": identity, "image": "a.png", key: turns, **more}


def test_the_forms_that_are_found_are_read(tmp_path: Path, draw: Make, write: Make) -> None:
    draw("images/a.png")
    file = write(
        "test.json",
        record(0, "No", answer_type="CLOSED"),
        record("1", 3, key="conversatons", answer_type="number", question_type="COUNT"),
        record(2, "yes"),
        record(3, "left lung"),
        record(4, "Yes", answer_type="yes/no"),
    )
    write("train.json", record(9, "yes"))
    read = read_llava_med_vqa(file, tmp_path / "images", "test")
    assert [(q.id, q.answer, q.answer_type) for q in read.questions] == [
        ("0", "No", "closed"),
        ("1", "3", "open"),
        ("2", "yes", "closed"),
        ("3", "left lung", "open"),
        ("4", "Yes", "closed"),
    ]
    assert {q.text for q in read.questions} == {"Is it a lung?"} and read.questions[1].question_types == ("COUNT",)
    assert read.notes == (
        "5 questions on 1 picture, 2 open and 3 closed.",
        "1 of the 1 test pictures also occurs in the training split: a model trained on that split has seen them.",
        "2 questions state no answer_type: those answered yes or no count as closed.",
    )
    assert llava_med_vqa_answers(file) == (("closed", "yes"),)
    assert parse_benchmark(f"llava-med-vqa:{tmp_path}").file == file
    with pytest.raises(UsageError, match="holds test questions"):
        read_llava_med_vqa(file, tmp_path, "train")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (record(0, "no"), "occurs twice"),
        (record(1, []), "expected text"),
        (record(1, "no", image="b.png"), "is not in"),
        (record(1, "no", answer_type=7), "OPEN or CLOSED"),
        ({"id": 1, "image": "a.png"}, "no conversation"),
        ({"id": 1, "image": "a.png", "conversations": record(1, "a")["conversations"] * 2}, "marker"),
        (7, "expected an object"),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, draw: Make, write: Make, wrong: Any, reason: str) -> None:
    draw("a.png")
    read = read_llava_med_vqa(write("test.json", record(0, "no"), wrong), tmp_path, "test")
    assert [question.id for question in read.questions] == ["0"]
    (fault,) = read.faults
    assert reason in fault.reason and fault.where.endswith("test.json, record 1")


def test_another_file_is_refused(tmp_path: Path, write: Make) -> None:
    with pytest.raises(DataError, match="not a VQA file"):
        read_llava_med_vqa(write("test.json", {"question": "x"}), tmp_path, "test")
