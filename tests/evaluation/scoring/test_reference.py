"""The published formulae, against the outputs of the reference's own scripts and against its documented quirks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.evaluation.scoring.candidates import Candidates
from llavamed_cli.evaluation.scoring.reference import normalize, score_closed, score_open
from llavamed_cli.evaluation.scoring.word_lists import CONTRACTIONS

RUN_EVAL = {
    "exact match score": "exact_match",
    "f1 score": "f1",
    "precision": "precision",
    "recall": "recall",
    "bleu_score": "bleu",
    "bleu_score_1": "bleu_1",
    "bleu_score_2": "bleu_2",
    "bleu_score_3": "bleu_3",
    "open accuracy": "nearest_accuracy",
    "yes/no accuracy": "closed_accuracy_yes_no",
}
RUN_EVAL_BATCH = {**RUN_EVAL, "open accuracy": "open_accuracy", "yes/no accuracy": "closed_accuracy"}
RECALL_CLOSED = "recall_closed"


@pytest.fixture(scope="module")
def oracle(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "oracle" / "vqa" / "metrics.json").read_text())
    return found


@pytest.fixture(scope="module")
def scored(shared: Path, oracle: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, float]]]:
    listed = json.loads((shared / "oracle" / "vqa" / "candidates.json").read_text())["0"]
    candidates = Candidates([normalize(str(answer)) for answer in listed])
    return [
        (
            record,
            score_open(record["pred"], record["gt"], candidates)
            if record["answer_type"] == "OPEN"
            else score_closed(record["pred"], record["gt"]),
        )
        for record in oracle["records"]
    ]


def test_normalised_strings_are_the_reference_s(oracle: dict[str, Any]) -> None:
    for pair in oracle["normalize"]:
        assert normalize(pair["input"]) == pair["output"]
    for record in oracle["records"]:
        assert normalize(record["gt"]) == record["gt_normalized"]
        assert normalize(record["pred"]) == record["pred_normalized"]


def test_every_record_has_the_reference_s_scores(scored: list[tuple[dict[str, Any], dict[str, float]]]) -> None:
    for record, mine in scored:
        for script, names in (("run_eval", RUN_EVAL), ("run_eval_batch", RUN_EVAL_BATCH)):
            for name, value in record[script].items():
                ours = mine["recall"] if name == RECALL_CLOSED else mine[names[name]]
                assert ours == pytest.approx(value, abs=1e-9), (record["id"], name)


def test_means_are_the_reference_s(
    oracle: dict[str, Any], scored: list[tuple[dict[str, Any], dict[str, float]]]
) -> None:
    def mean(kind: str, metric: str) -> float:
        values = [mine[metric] for record, mine in scored if record["answer_type"] == kind]
        return sum(values) / len(values)

    for script, names in (("run_eval", RUN_EVAL), ("run_eval_batch", RUN_EVAL_BATCH)):
        for name, value in oracle["aggregate"][script]["metrics"].items():
            kind = "CLOSED" if name in ("yes/no accuracy", RECALL_CLOSED) else "OPEN"
            metric = "recall" if name == RECALL_CLOSED else names[name]
            assert mean(kind, metric) == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x-ray", "x ray"),
        ("1,000 x-ray", "1000 xray"),
        ("None", "0"),
        ("dont", "don't"),
        ("A. B. C", "b c"),
        ("T2 - weighted", "t2 weighted"),
        ("3.5 cm.", "3.5 cm"),
        ("x." * 40, "x" * 33 + ".x" * 7 + "."),
        ("she'dve", "she'd've"),
        ("somebody'd", "somebodyd"),
    ],
)
def test_normalisation_keeps_the_quirks(text: str, expected: str) -> None:
    assert normalize(text) == expected


def test_contractions_put_back_apostrophes_only() -> None:
    assert len(CONTRACTIONS) == 114  # the list's 120 less four with a capital I and two that map to themselves
    for short, full in CONTRACTIONS.items():
        assert short.replace("'", "") == full.replace("'", "")


def test_repeating_a_word_raises_recall() -> None:
    assert score_open("left left left", "left lung")["recall"] == 75
    assert score_open("left", "left lung")["recall"] == 50


def test_a_closed_answer_is_right_by_substring() -> None:
    assert score_closed("yes, it is abnormal", "no")["closed_accuracy"] == 100
    assert score_closed("left", "left") == {"closed_accuracy": 100, "closed_accuracy_yes_no": 0, "recall": 100}


def test_nearest_candidate_takes_the_first_of_the_best() -> None:
    assert score_open("left lung", "left", Candidates(["left", "lung"]))["nearest_accuracy"] == 100
    assert score_open("left lung", "left", Candidates(["lung", "left"]))["nearest_accuracy"] == 0
    assert "nearest_accuracy" not in score_open("left lung", "left")
