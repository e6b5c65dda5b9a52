"""Which answers are shown: the surest mistakes first, one a picture, half of them open; nothing invisible in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies
from PIL import Image

from llavamed_cli.evaluation.answerers.answerer import Answerer
from llavamed_cli.evaluation.answerers.majority import Majority
from llavamed_cli.evaluation.report.examples import CARDS, LONGEST, SIDE_BY_SIDE, open_side_by_side, visible
from llavamed_cli.evaluation.report.examples import worst_and_best as chosen
from llavamed_cli.evaluation.scores import ScoredAnswers, score_answers
from llavamed_cli.records import Answer, Question

WHO: dict[str, Answerer] = {name: Majority([("closed", "yes")]) for name in ("one", "two")}


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    """Twenty questions, an open and a closed one about each of ten pictures."""
    made = []
    for number in range(20):
        picture = tmp_path / f"{number // 2}.png"
        Image.new("L", (5, 5)).save(picture)
        kind, answer = (("open", "left lung"), ("closed", "yes"))[number % 2]
        made.append(
            Question(
                id=f"{number:02d}",
                image=picture.name,
                picture=picture,
                text="?",
                answer=answer,
                answer_type=kind,  # type: ignore[arg-type]
            )
        )
    return made


def scored(questions: list[Question], say: Callable[[int], tuple[str, float | None]]) -> ScoredAnswers:
    said = {
        question.id: Answer(question_id=question.id, text=say(number)[0], confidence=say(number)[1])
        for number, question in enumerate(questions)
    }
    return score_answers(questions, said)


def test_worst_are_wrong_and_sure(questions: list[Question]) -> None:
    one = scored(questions, lambda number: ("right lung" if number % 2 == 0 else "no", number / 100))
    ((title, cards),) = chosen({"one": one}, WHO)
    assert title == "Wrong, and most sure of it" and len(cards) == CARDS
    assert len({card.question.image for card in cards}) == CARDS
    kinds = [card.question.answer_type for card in cards]
    assert kinds.count("open") == kinds.count("closed") == CARDS // 2
    sure = [card.said[0].confidence for card in cards]
    assert sure[:3] == sorted(sure[:3], reverse=True)  # type: ignore[type-var]
    assert max(sure) == 0.19  # type: ignore[type-var]
    assert all(card.picture and card.picture.startswith("data:") for card in cards)


def test_without_confidence_open_answers_go_by_their_words(questions: list[Question]) -> None:
    one = scored(
        questions, lambda number: ("lung" if number < 10 else "heart", None) if number % 2 == 0 else ("no", None)
    )
    ((title, cards),) = chosen({"one": one}, WHO)
    assert title == "Wrong"
    assert [card.said[0].f1 for card in cards if card.question.answer_type == "open"] == [0, 0, 0]


def test_a_vanished_picture_is_said_not_raised(questions: list[Question]) -> None:
    one = scored(questions, lambda number: ("yes", 0.5))
    for question in questions:
        question.picture.unlink(missing_ok=True)
    assert all(card.picture is None for _, cards in chosen({"one": one}, WHO) for card in cards)


def test_side_by_side_are_those_that_differ(questions: list[Question]) -> None:
    one = scored(questions, lambda number: ("left lung", None))
    two = scored(questions, lambda number: ("heart" if number == 6 else "left lung", None))
    cards = open_side_by_side({"one": one, "two": two}, WHO)
    assert cards[0].question.id == "06" and [said.f1 for said in cards[0].said] == [100, 0]
    assert len(cards) == 10 and all(card.question.answer_type == "open" for card in cards)
    alone = open_side_by_side({"one": one}, WHO)
    assert len(alone) == min(SIDE_BY_SIDE, 10) and alone[-1].question.id == "18"


def test_long_answers_are_cut_and_say_so(questions: list[Question]) -> None:
    one = scored(questions, lambda number: ("a" * 1000, None))
    (_, cards), *_ = chosen({"one": one}, WHO)
    assert len(cards[0].said[0].text) + cards[0].said[0].cut == 1000
    assert len(cards[0].said[0].text) == LONGEST[True]


@hypothesis.given(strategies.text())
def test_visible_text_can_be_written_and_seen(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert shown == text or "[U+" in shown
    assert not {"\u202e", "\u2066", "\x00", "\ud800"} & set(shown)
    assert visible("ja, \u0938\u094d\u200d\u0930 肺\n") == "ja, \u0938\u094d\u200d\u0930 肺\n"
