"""The strict scores: what they count, and properties that no answer can break."""

from __future__ import annotations

import warnings

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llavamed_cli.evaluation.scoring.strict import score_closed, score_open, words

texts = st.text(max_size=40)


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
        ("不是", "没有", True),
        ("是的，有肺炎", "存在", True),
        ("不正常", "不是", False),
        ("肺脏", "肺", False),
        ("T1", "t1", True),
    ],
)
def test_closed_answers(prediction: str, reference: str, right: bool) -> None:
    assert score_closed(prediction, reference)["accuracy"] == 100 * right


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T2-weighted", "t2 weighted"),
        ("3.5 cm.", "3.5 cm"),
        ("The  left, lung", "left lung"),
        ("A", "a"),
        ("don’t", "dont"),
        ("two", "2"),
        ("?", "?"),
        ("", ""),
        ("左肺，右侧", "左 肺 右 侧"),
        ("T2加权", "t2 加 权"),
        ("两个", "2 个"),
        ("X光ＣＴ", "x 光 ct"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert words(text) == tuple(expected.split())


def test_a_repeated_word_is_counted_once() -> None:
    scores = score_open("left left left", "left lung")
    assert scores["recall"] == 50
    assert scores["precision"] == pytest.approx(100 / 3)
    assert scores["accuracy"] == 0


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        ("liver", True),
        ("The liver.", True),
        ("It is the liver", True),
        ("B", True),
        ("(b) something", True),
        ("Answer: B", True),
        ("the left liver", False),
        ("liver or spleen", False),
        ("A", False),
        ("", False),
        ("kidney", False),
    ],
)
def test_listed_choices(prediction: str, right: bool) -> None:
    choices = ("spleen", "liver", "left liver")
    assert score_closed(prediction, "Liver", choices)["accuracy"] == 100 * right
    assert score_closed(prediction, "B", choices)["accuracy"] == 100 * right


OPEN_METRICS = ("accuracy", "recall", "precision", "f1", "bleu_1", "bleu_2", "bleu_3", "bleu_4")
vocabulary = st.sampled_from(["left", "lung", "no", "abnormal", "normal", "mass", "yes", "2", "肺", "是", "a"])
sentences = st.lists(vocabulary, min_size=1, max_size=7).map(" ".join)


@given(text=texts.filter(words))
def test_the_reference_itself_is_fully_right(text: str) -> None:
    assert score_open(text, text) == pytest.approx(dict.fromkeys(OPEN_METRICS, 100))
    assert score_closed(text, text) == {"accuracy": 100}


@given(prediction=texts, reference=texts.filter(words))
def test_scores_are_percent_and_f1_is_symmetric(prediction: str, reference: str) -> None:
    scores = score_open(prediction, reference)
    assert tuple(scores) == OPEN_METRICS
    assert all(0 <= value <= 100 + 1e-9 for value in scores.values())
    if words(prediction):
        assert scores["f1"] == pytest.approx(score_open(reference, prediction)["f1"])
        assert scores["recall"] == score_open(reference, prediction)["precision"]


@given(reference=texts.filter(words), times=st.integers(2, 4))
def test_saying_it_again_costs_precision_and_gains_no_recall(reference: str, times: int) -> None:
    scores = score_open(" ".join([reference] * times), reference)
    assert scores["recall"] == 100
    assert scores["precision"] == pytest.approx(100 / times)
    assert scores["accuracy"] == 0


@given(prediction=sentences, reference=sentences, data=st.data())
def test_repeating_a_word_never_raises_a_score(prediction: str, reference: str, data: st.DataObject) -> None:
    """At its place or at the end, once the answer has it as often as the reference.

    BLEU of pairs and longer is another matter: "lung lung left" becomes nearer to "lung lung lung" by a word in front.
    """
    said = prediction.split()
    place = data.draw(st.integers(0, len(said) - 1))
    end = data.draw(st.sampled_from((place, len(said))))
    again = " ".join([*said[:end], said[place], *said[end:]])
    repeated = words(said[place])
    hypothesis.assume(words(prediction).count(repeated[0]) >= words(reference).count(repeated[0]))
    for once, more in (
        (score_open(prediction, reference), score_open(again, reference)),
        (score_closed(prediction, reference), score_closed(again, reference)),
    ):
        assert all(more[name] <= once[name] + 1e-9 for name in once if name not in ("bleu_2", "bleu_3", "bleu_4"))


@given(prediction=sentences, reference=sentences)
def test_bleu_is_nltk_s_where_nothing_is_repeated(prediction: str, reference: str) -> None:
    bleu_score = pytest.importorskip("nltk.translate.bleu_score")
    said, known = list(dict.fromkeys(words(prediction))), words(reference)
    scores = score_open(" ".join(said), reference)
    for order in (1, 2, 3, 4):
        size = min(order, len(known))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = bleu_score.sentence_bleu([known], said, weights=(1 / size,) * size)
        assert scores[f"bleu_{order}"] == pytest.approx(100 * float(expected), abs=1e-9)


@settings(max_examples=30)
@given(st.lists(sentences, min_size=1, max_size=6), st.data())
def test_accuracy_and_f1_are_scikit_learn_s(references: list[str], data: st.DataObject) -> None:
    """Exact match is its accuracy over answers as strings of words; token F1 its F1 over the words' occurrences."""
    metrics = pytest.importorskip("sklearn.metrics")
    predictions = [data.draw(st.sampled_from((reference, "left lung", "no"))) for reference in references]
    scores = [score_open(said, true) for said, true in zip(predictions, references, strict=True)]
    plain = [[" ".join(words(text)) for text in texts] for texts in (references, predictions)]
    assert sum(one["accuracy"] for one in scores) / len(scores) == pytest.approx(100 * metrics.accuracy_score(*plain))
    for one, said, true in zip(scores, predictions, references, strict=True):
        occurrences = sorted({*_numbered(words(said)), *_numbered(words(true))})
        there = [[occurrence in _numbered(words(text)) for occurrence in occurrences] for text in (true, said)]
        assert one["f1"] == pytest.approx(100 * metrics.f1_score(*there, zero_division=0))
        assert one["recall"] == pytest.approx(100 * metrics.recall_score(*there, zero_division=0))
        assert one["precision"] == pytest.approx(100 * metrics.precision_score(*there, zero_division=0))


def _numbered(said: tuple[str, ...]) -> set[tuple[str, int]]:
    """Each word with how often it came before: a multiset as a set."""
    return {(word, said[:place].count(word)) for place, word in enumerate(said)}
