"""What a CLIP may choose, and in which words: by the question alone, right of nearly every published question."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from llavamed_cli.benchmarks.open_benchmark import parse_benchmark, read_benchmark, training_part
from llavamed_cli.evaluation.answerers.clip_texts import asked_thing, offered, possible_answers, ways_to_say
from llavamed_cli.evaluation.scoring.strict import score_closed
from llavamed_cli.records import Question

CLOSED = ("yes", "no", "right", "left", "kidney", "left kidney", "ct", "mri", "是的", "肺", "肝脏", "左侧", "右侧")


def ask(text: str, kind: str = "closed", choices: tuple[str, ...] = ()) -> Question:
    return Question(
        id="q",
        image="p.png",
        picture=Path("p.png"),
        text=text,
        answer="nobody knows",
        answer_type=kind,  # type: ignore[arg-type]
        choices=choices,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Is the heart enlarged?", ("yes", "no")),
        ("Any deviation?", ("yes", "no")),
        ("Is it on the left or right?", ("right", "left")),
        ("Is this the left kidney or the right?", ("right", "left kidney")),
        ("Is there a mass or an abscess?", ("right", "left", "kidney", "left kidney", "ct", "mri")),
        ("Which side?", ("right", "left", "kidney", "left kidney", "ct", "mri")),
        ("图中有肺吗?", ("是的", "不是")),
        ("这是腹部么?", ("是的", "不是")),
        ("肺在左侧还是右侧?", ("肺", "左侧", "右侧")),  # what is asked about is taken for a choice
        ("这是CT还是MRI?", ("ct", "mri")),
        ("哪个器官?", ("肺", "肝脏", "左侧", "右侧")),
    ],
)
def test_the_answers_that_a_question_may_have(text: str, expected: tuple[str, ...]) -> None:
    assert possible_answers(ask(text), CLOSED) == expected


def test_without_closed_answers_yes_or_no_is_left() -> None:
    assert possible_answers(ask("Which side?"), ()) == ("yes", "no") == possible_answers(ask("Which?"), ("yes", "no"))
    assert possible_answers(ask("Which side?", "open"), CLOSED) == ()
    assert possible_answers(ask("Is it?", choices=("A: 1", "B: 2")), CLOSED) == ("A: 1", "B: 2")


@pytest.mark.parametrize("text", ["left or", "or right", "left, right", "", "or", "left and up or down"])
def test_a_choice_has_two_sides(text: str) -> None:
    assert offered(text, CLOSED) == ()


@pytest.mark.parametrize(
    ("question", "thing"),
    [
        ("Is there a nodule in the left lung?", "nodule in the left lung"),
        ("Is there any evidence of a fracture?", "fracture"),
        ("Are there signs of bleeding in this image?", "bleeding"),
        ("Does the picture contain spleen?", "spleen"),
        ("Does this x-ray image show an enlarged heart", None),
        ("Can you see the trachea?", "trachea"),
        ("Is a galaxy visible?", "galaxy"),
        ("Is a galaxy visible in this image?", "galaxy"),
        ("Is there no galaxy?", None),
        ("Is there a star or a planet?", None),
        ("Is the heart enlarged?", None),
        ("图中有肺吗?", None),
    ],
)
def test_what_is_asked_for(question: str, thing: str | None) -> None:
    assert asked_thing(question) == thing


def test_a_thing_is_said_with_and_without_no() -> None:
    question = ask("Is there a {nodule}?")  # braces are text
    assert ways_to_say(question, ("yes", "no")) == [
        ("{nodule}", "no {nodule}"),
        ("Is there a {nodule}? yes", "Is there a {nodule}? no"),
        ("yes: Is there a {nodule}?", "no: Is there a {nodule}?"),
    ]
    assert ways_to_say(ask("Which?"), ("a", "b"))[1:] == [("an image of a", "an image of b"), ("a", "b")]


@pytest.mark.parametrize(
    ("name", "reached", "chance"), [("vqa-rad", 94, 45), ("slake-en", 98.9, 48), ("slake-zh", 96.5, 45)]
)
def test_the_right_answer_is_among_those_of_published_questions(
    shared: Path, name: str, reached: float, chance: float
) -> None:
    """Percent of the test questions whose right answer may be chosen at all; and who chooses blindly."""
    place = {"vqa-rad": "vqa_rad/VQA_RAD Dataset Public.json"}.get(name, "slake")
    benchmark = parse_benchmark(f"{name}:{shared / 'data' / place}")
    part = training_part(benchmark)
    assert part is not None
    train, test = (
        [q for q in read_benchmark(of, pictures=None, split=split, seed=0).questions if q.answer_type == "closed"]
        for of, split in ((part, "train"), (benchmark, "test"))
    )
    found = Counter(question.answer.strip().lower() for question in train)
    closed = sorted(found, key=lambda text: (-found[text], text))
    may, luck = 0, 0.0
    for question in test:
        answers = possible_answers(question, closed)
        assert answers == possible_answers(replace(question, answer="another"), closed), "it knows the answer"
        right = sum(score_closed(one, question.answer, question.choices)["accuracy"] == 100 for one in answers)
        may, luck = may + bool(right), luck + right / len(answers)
    assert 100 * may / len(test) >= reached and 100 * luck / len(test) >= chance
