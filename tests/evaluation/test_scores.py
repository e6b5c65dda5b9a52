"""From answers to scores: groups, strata, verdicts and differences, on numbers that can be worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.evaluation.markdown import markdown_tables
from llavamed_cli.evaluation.scores import compare, score_answers, summarise
from llavamed_cli.evaluation.scoring import reference, strict
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
    assert (scores["absent"], scores["overall"]["small"]) == (0, True)
    assert scores["strata"] == {"n": 4, "small": 4}
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
    assert row.split() == ["majority", "100.0", "100.0", "[43.9,", "100.0]"]  # Wilson's at 3 of 3
    pair = next(number for number, line in enumerate(lines) if line.startswith("  majority"))
    assert "+0.0 [+0.0, +0.0]" in lines[pair] and "p = 1" in lines[pair + 1]
    assert lines[-2] == "Fewer than 30 pictures: these intervals are rough."
    pages = markdown_tables(scores).splitlines()
    assert pages[0].startswith("**b**: 4 questions")
    tables = [line for line in pages if line.startswith("|")]
    assert len({line.count(" |") for line in tables[:5]}) == 1
    assert "| majority | 100.0 | 100.0 [43.9, 100.0] |" in tables[4]
    assert any("p = 1" in line for line in tables)


def test_an_absent_answer_is_wrong_under_both_score_sets() -> None:
    """An empty answer is not an absent one: by the published formulae it holds an answer of articles alone."""
    asked = [*QUESTIONS, question(4, "A", "open", ())]
    given = answered("yes", "no", "left", "left lung")
    absent = score_answers(asked, given)
    assert absent.absent == 1
    assert not any({**absent[4].reference, **absent[4].strict}.values())
    assert summarise(absent, seed=0)["overall"]["strict"]["accuracy"]["value"] == 80
    empty = score_answers(asked, {**given, "4": Answer(question_id="4", text="")})
    assert (empty.absent, empty[4].reference["open_accuracy"], empty[4].right) == (0, 100, False)


def test_what_is_looked_up_is_what_the_formulae_give() -> None:
    scored = score_answers(QUESTIONS, answered("Yes.", "normal", "left", "the lung"), ("lung", "left lung"))
    assert len(scored) == 4 and [one.right for one in scored] == [True, False, True, False]
    assert dict(scored[1].reference) == reference.score_closed("normal", "no")
    assert dict(scored[3].strict) == strict.score_open("the lung", "left lung")
    assert scored[3].reference["nearest_accuracy"] == 0
    assert [one.question.id for one in scored[1:3]] == ["1", "2"]


def test_the_order_of_questions_does_not_matter() -> None:
    answers = answered("yes", "no", "right", "lung")
    turned = summarise(score_answers(QUESTIONS[::-1], answers), seed=1)
    assert turned == summarise(score_answers(QUESTIONS, answers), seed=1)


def test_nobody_differs_from_himself() -> None:
    ours = score_answers(QUESTIONS, answered("yes", "yes", "left", "lung"))
    same = compare(ours, ours, seed=0)
    assert same["overall"]["strict"]["accuracy"] == {"value": 0, "low": 0, "high": 0, "p": 1}


def test_listed_choices_are_used() -> None:
    asked = [replace(QUESTIONS[2], choices=("right", "left"))]
    answers = {"2": Answer(question_id="2", text="B. the left side")}
    assert score_answers(asked, answers)[0].right
    assert not score_answers(QUESTIONS[2:3], answers)[0].right


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(("yes", "No.", "abnormal"))), min_size=1, max_size=30))
def test_yes_no_scores_are_scikit_learn_s(rows: list[tuple[bool, str]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    asked = [question(n, "yes" if truth else "no", "closed", ("PRES",)) for n, (truth, _) in enumerate(rows)]
    scores = summarise(score_answers(asked, answered(*(text for _, text in rows))), seed=0)
    truth = ["yes" if true else "no" for true, _ in rows]
    said = [{"yes": "yes", "No.": "no"}.get(text, "unparsed") for _, text in rows]
    labels = ["yes", "no", "unparsed"]
    accuracy = scores["overall"]["strict"]["accuracy"]["value"]
    assert accuracy == pytest.approx(100 * metrics.accuracy_score(truth, said), abs=1e-5)
    matrix = metrics.confusion_matrix(truth, said, labels=labels)
    assert [[scores["verdicts"][true][one] for one in labels] for true in ("yes", "no")] == matrix[:2].tolist()
    found = scores["detection"]["presence"]
    assert [found[name] for name in ("tp", "fn", "unread_positive")] == matrix[0].tolist()
    assert [found[name] for name in ("fp", "tn", "unread_negative")] == matrix[1].tolist()
    for title, label in (("sensitivity", "yes"), ("specificity", "no")):
        if label in truth:
            recall = metrics.recall_score(truth, said, labels=[label], average="macro", zero_division=0)
            assert found[title]["value"] == pytest.approx(100 * recall, abs=1e-5)


def test_the_reference_s_aggregates_come_out_of_the_whole_chain(shared: Path) -> None:
    """What run_eval and run_eval_batch print for the oracle's records, through columns, sums and rounding."""
    folder = shared / "oracle" / "vqa"
    oracle = json.loads((folder / "metrics.json").read_text())
    asked = [
        replace(question(n, record["gt"], record["answer_type"].lower(), ()), image=f"{n % 7}")
        for n, record in enumerate(oracle["records"])
    ]
    listed = json.loads((folder / "candidates.json").read_text())["0"]
    known = [reference.normalize(str(answer)) for answer in listed]
    said = answered(*(record["pred"] for record in oracle["records"]))
    scores = summarise(score_answers(asked, said, known), seed=0)
    for script, open_name, closed_name in (
        ("run_eval", "nearest_accuracy", "closed_accuracy_yes_no"),
        ("run_eval_batch", "open_accuracy", "closed_accuracy"),
    ):
        printed = oracle["aggregate"][script]["metrics"]
        for group, name, theirs in (
            ("open", "recall", "recall"),
            ("open", "exact_match", "exact match score"),
            ("open", "bleu_1", "bleu_score_1"),
            ("open", open_name, "open accuracy"),
            ("closed", closed_name, "yes/no accuracy"),
            ("closed", "recall", "recall_closed"),
        ):
            if theirs == "recall_closed" and theirs not in printed:
                continue  # run_eval_batch alone prints it
            assert scores[group]["reference"][name]["value"] == pytest.approx(printed[theirs], abs=1e-6), (script, name)
