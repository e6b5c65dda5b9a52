"""What was said and shown: pictures stay with the question that they were shown for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from llavamed_cli.asking.talk import Talk
from llavamed_cli.errors import UsageError
from llavamed_cli.model.picture import Picture, PictureFacts

SHOWN = [
    Picture(Image.new("RGB", (n + 1, 1)), PictureFacts(format="PNG", mode="RGB", width=n + 1, height=1))
    for n in range(4)
]


def test_waiting_pictures_stand_before_the_question() -> None:
    talk = Talk().showing(SHOWN[:2]).asking("  What changed? ")
    assert talk.turns[0].text == "<image>\n<image>\nWhat changed?"
    assert (talk.pictures, talk.waiting) == (tuple(SHOWN[:2]), ())
    assert talk.last_question == "What changed?"


def test_markers_say_where_pictures_belong() -> None:
    talk = Talk().showing(SHOWN[:2]).asking("Compare <image> with <image>.")
    assert talk.turns[0].text == "Compare <image> with <image>."
    with pytest.raises(UsageError, match=r"1 <image> marker\(s\), and 2 new"):
        Talk().showing(SHOWN[:2]).asking("Compare <image>.")


@pytest.mark.parametrize("empty", ["", "  \n", "<image>", " <image> "])
def test_an_empty_question_is_refused(empty: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        Talk().showing(SHOWN[:1]).asking(empty)


@given(
    some.lists(some.integers(0, 2), min_size=1, max_size=4), some.booleans(), some.sampled_from(["That.", "<image>"])
)
def test_taking_back_undoes_asking(shown: list[int], answered: bool, answer: str) -> None:
    """A marker is only a word in what a model says."""
    talk = Talk()
    for count in shown:
        before = talk.showing(SHOWN[:count])
        talk = before.asking("What?").answered(answer)
    again = talk.taken_back() if answered else before.asking("What?").taken_back()
    assert again == before
    assert talk.begun_again() == Talk(waiting=talk.pictures)


def test_what_was_held_back_is_not_what_was_said() -> None:
    talk = Talk().asking("Is there a mass?").answered("Yes.").answered_instead("Declined.")
    assert [turn.text for turn in talk.turns] == ["Is there a mass?", "Declined."]
    assert talk.taken_back() == Talk()
