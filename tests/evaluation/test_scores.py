"""From answers to scores: groups, strata, verdicts and differences, on numbers that can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from llavamed_cli.evaluation.scores import compare, score_answers, summarise
from llavamed_cli.evaluation.table import score_table
from llavamed_cli.records import Answer, AnswerType, Question


def question(number: int, answer: str, kind: AnswerType, types: tuple[str, ...], organ: str | None = None) -> Question:
    return Question(
        id=str(number),
        image=f"{number % 3}.png",
        picture=Path("x.png"),
        text="Q?",
        answer=answer,
        answer_type=kind,
        question_types=types,
        organ=organ,
    )


QUESTIONS = [
    question(0, "yes", "closed", ("PRES",), "HEAD"),
    question(1, "no", "closed", ("PRES", "POS"), "HEAD"),
    question(2, "left", "closed", ("POS",), "CHEST"),
    question(3, "left lung", "open", ("POS",)),
]


def answered(*texts: str) -> dict[str, Answer]:
    return {str(n): Answer(question_id=str(n), text=text) for n, text in enumerate(texts)}


def test_groups_and_strata() -> None:
    scores = summarise(score_answers(QUESTIONS, answered("Yes.", "normal", "left", "the lung"), ()), seed=0)
    assert scores["overall"]["n"] == 4 and scores["overall"]["pictures"] == 3
    assert scores["overall"]["strict"]["accuracy"]["value"] == 50
    assert scores["closed"]["strict"]["accuracy"]["value"] == pytest.approx(200 / 3, abs=1e-6)
    assert scores["closed"]["reference"]["closed_accuracy"]["value"] == 100  # "no" is in "normal"
    assert scores["open"]["strict"]["recall"] == {"value": 50, "low": None, "high": None}  # one picture alone
    assert scores["verdicts"]["yes"] == {"yes": 1, "no": 0, "unparsed": 0}
    assert scores["verdicts"]["no"] == {"yes": 0, "no": 0, "unparsed": 1}
    by_type = scores["by"]["question_type"]
    assert {name: block["overall"]["n"] for name, block in by_type.items()} == {"POS": 3, "PRES": 2}
    assert set(by_type["PRES"]) == {"overall", "closed"}
    assert set(scores["by"]) == {"question_type", "organ"}


def test_difference_is_question_by_question() -> None:
    ours = score_answers(QUESTIONS, answered("yes", "no", "left", "left lung"), ())
    theirs = score_answers(QUESTIONS, answered("no", "no", "left", "left"), ())
    gain = compare(ours, theirs, seed=0)
    assert gain["overall"]["strict"]["accuracy"]["value"] == 50
    assert gain["closed"]["strict"]["accuracy"]["value"] == pytest.approx(100 / 3, abs=1e-6)
    assert gain["open"]["strict"]["recall"]["value"] == 50
    loss = compare(theirs, ours, seed=0)
    assert loss["closed"]["strict"]["accuracy"]["low"] == -gain["closed"]["strict"]["accuracy"]["high"]


def test_table_fits_80_columns_and_names_everyone() -> None:
    ours = score_answers(QUESTIONS, answered("yes", "no", "left", "left lung"), ())
    long = "a-model-whose-folder-has-a-very-long-name-indeed"
    block = summarise(ours, seed=0)
    scores = {
        "benchmarks": {
            "b": {
                "n": 4,
                "open": 1,
                "closed": 3,
                "pictures": 3,
                "answerers": {long: block, f"blind:{long}": block, "majority": block},
                "differences": [
                    {"first": long, "second": f"blind:{long}", **compare(ours, ours, seed=0)},
                    {"first": long, "second": "majority", **compare(ours, ours, seed=0)},
                ],
            }
        }
    }
    lines = score_table(scores).splitlines()
    assert max(len(line) for line in lines) < 80
    assert lines[0] == "b: 4 questions (1 open, 3 closed), 3 pictures"
    row = next(line for line in lines if line.startswith("majority"))
    assert row.split() == ["majority", "100.0", "100.0", "[100.0,", "100.0]"]
    assert any(line.startswith("  majority") and "+0.0 [+0.0, +0.0]" in line for line in lines)
