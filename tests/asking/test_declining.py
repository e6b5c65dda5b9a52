"""When an answer is held back, and what is said in its place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llavamed_cli.asking.declining import decline, refusal, sureness
from llavamed_cli.asking.session import Alternative, Reply
from llavamed_cli.asking.talk import Talk
from llavamed_cli.model.decoding import Decoding
from llavamed_cli.model.yes_no import YesNo


def reply(text: str, confidence: float | None, yes_no: YesNo | None = None) -> Reply:
    return Reply(text=text, finish="end", to_first=0.1, seconds=0.2, confidence=confidence, yes_no=yes_no)


class Somebody:
    """Offers two alternatives."""

    talk, decoding, last = Talk(), Decoding(), None

    def ask(self, question: str) -> Iterator[str]:
        yield from ()

    def alternatives(self, count: int) -> list[Alternative]:
        return [Alternative(answer="a\nnodule", probability=0.4), Alternative(answer="a cyst", probability=0.3)][:count]


@pytest.mark.parametrize(
    ("given", "sure"),
    [
        (reply("Yes, there is.", 0.2, YesNo(0.7, 0.3, 0.9)), 0.7),
        (reply("No.", 0.2, YesNo(0.7, 0.3, 0.9)), 0.3),
        (reply("Yes", 0.2, YesNo(0.7, 0.3, 0.4)), 0.2),
        (reply("A nodule", 0.2, YesNo(0.7, 0.3, 0.01)), 0.2),
        (reply("Yes", 0.2), 0.2),
        (reply("Yes", None), None),
    ],
)
def test_how_sure_an_answer_is(given: Reply, sure: float | None) -> None:
    assert sureness(given) == sure


def test_yes_and_no_are_the_alternatives_of_a_closed_question() -> None:
    given = reply("No.", 0.9, YesNo(0.45, 0.55, 0.95))
    assert decline(Somebody(), given, 0.5) is None
    held = decline(Somebody(), given, 0.6)
    assert held is not None
    assert [(one.answer, one.probability) for one in held.alternatives] == [("no", 0.55), ("yes", 0.45)]


def test_other_questions_name_other_answers_a_line_each() -> None:
    held = decline(Somebody(), reply("a nodule", 0.4), 0.5)
    assert held is not None
    assert refusal(held).splitlines() == [
        "Declined: the model is 0.40 sure of its answer, and 0.5 was asked for.",
        "The model wavers between:",
        "  0.40  a nodule",
        "  0.30  a cyst",
    ]


def test_an_answer_of_unknown_sureness_is_held_back() -> None:
    held = decline(Somebody(), reply("Yes", None), 0.5)
    assert held is not None
    assert refusal(held).startswith("Declined: the server does not tell how sure its model is, and 0.5 was asked for.")
