from __future__ import annotations

import pytest

from llavamed_cli.corpus.sentences import split_sentences
from llavamed_cli.corpus.teacher.sides import check_side, sides_named
from llavamed_cli.corpus.words import WordGroups, Words

SIDES = WordGroups(
    {"left": Words(("left", "left-sided", "bilateral*")), "right": Words(("right", "right-sided", "bilateral*"))}
)


def faults(text: str, answer: str) -> list[str]:
    known = sides_named(split_sentences(text), SIDES)
    checked = (check_side(claim, known) for claim in sides_named(split_sentences(answer), SIDES))
    return [fault for fault in checked if fault]


BOTH = "The left lung is clear. A mass of 3 cm lies in the right kidney, and the left kidney is small."

STAINS = "The tissue is stained with eosin (left) and silvered by hand (right)."


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("A mass in the left lung.", "The mass lies in the left lung.", []),
        ("A mass in the left lung.", "The mass lies in the right lung.", ["absent"]),
        ("Bilateral masses.", "A mass on the left and one on the right.", []),
        ("A mass in the left lung.", "There are bilateral masses.", ["absent"]),
        ("Masses in the left and right lungs.", "Bilateral masses are seen.", []),
        (BOTH, "A mass of 3 cm lies in the right kidney.", []),
        (BOTH, "A mass of 3 cm lies in the left kidney.", ["other"]),
        (BOTH, "The left kidney is small.", []),
        (BOTH, "The right kidney is small.", ["other"]),
        (BOTH, "The right lung is clear.", ["other"]),
        ("Left-sided effusion.", "An effusion on the left.", []),
        (STAINS, "On the left the tissue is stained with eosin, and on the right it is silvered.", []),
        (STAINS, "On the right the tissue is stained with eosin.", ["other"]),
        ("Mutants show the right-sided (D) and left-sided (E) arches.", "The left-sided and right-sided arches.", []),
        ("A mass.", "A mass.", []),
    ],
)
def test_one_side_is_not_taken_for_the_other(text: str, answer: str, expected: list[str]) -> None:
    assert faults(text, answer) == expected
