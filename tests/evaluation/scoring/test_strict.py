"""The strict scores: what they count, and properties that no answer can break."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llavamed_cli.evaluation.scoring.strict import asks_yes_or_no, score_closed, score_open, words, yes_or_no

texts = st.text(max_size=40)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yes.", "yes"),
        ("no, it is not", "no"),
        ("There is no mass, yes", "no"),
        ("normal", "unparsed"),
        ("unknown", "unparsed"),
        ("yesterday", "unparsed"),
        ("It is not.", "unparsed"),
        ("", "unparsed"),
        ("ＹＥＳ", "yes"),
    ],
)
def test_the_first_whole_word_decides(text: str, verdict: str) -> None:
    assert yes_or_no(text) == verdict


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("yes, it is abnormal", "no", False),
        ("yes and no", "no", False),
        ("No.", "no", True),
        ("I cannot say", "no", False),
        ("Left", "left.", True),
        ("the left lung", "left", False),
        ("2", "two", True),
        ("none", "no", False),
        ("", "A", False),
    ],
)
def test_closed_answers(prediction: str, reference: str, right: bool) -> None:
    assert score_closed(prediction, reference)["accuracy"] == 100 * right


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T2-weighted", ["t2", "weighted"]),
        ("3.5 cm.", ["3.5", "cm"]),
        ("The  left, lung", ["left", "lung"]),
        ("A", ["a"]),
        ("don’t", ["dont"]),
        ("two", ["2"]),
        ("?", ["?"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_repeated_word_is_counted_once() -> None:
    scores = score_open("left left left", "left lung")
    assert scores["recall"] == 50
    assert scores["precision"] == pytest.approx(100 / 3)
    assert scores["accuracy"] == 0


def test_only_an_answer_that_starts_with_it_asks_yes_or_no() -> None:
    assert asks_yes_or_no("No, it is not") == "no"
    assert asks_yes_or_no("there is no mass") == "unparsed"


@settings(deadline=None)
@given(text=texts.filter(words))
def test_the_reference_itself_is_fully_right(text: str) -> None:
    assert score_open(text, text) == pytest.approx(
        dict.fromkeys(("accuracy", "recall", "precision", "f1", "bleu_1"), 100)
    )
    assert score_closed(text, text) == {"accuracy": 100}


@settings(deadline=None)
@given(prediction=texts, reference=texts.filter(words))
def test_scores_are_percent_and_f1_is_symmetric(prediction: str, reference: str) -> None:
    scores = score_open(prediction, reference)
    assert all(0 <= value <= 100 + 1e-9 for value in scores.values())
    if words(prediction):
        assert scores["f1"] == pytest.approx(score_open(reference, prediction)["f1"])
        assert scores["recall"] == score_open(reference, prediction)["precision"]


@settings(deadline=None)
@given(reference=texts.filter(words), times=st.integers(2, 4))
def test_saying_it_again_costs_precision_and_gains_no_recall(reference: str, times: int) -> None:
    scores = score_open(" ".join([reference] * times), reference)
    assert scores["recall"] == 100
    assert scores["precision"] == pytest.approx(100 / times)
    assert scores["accuracy"] == 0
