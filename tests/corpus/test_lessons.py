from __future__ import annotations

from pathlib import Path

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Dialogue, Lesson, align_sample, instruct_samples
from llavamed_cli.records import Source

SOURCE = Source(kind="pairs")


def lesson(identity: str, caption: str, *dialogues: Dialogue) -> Lesson:
    return Lesson(id=identity, picture=Path("x.png"), caption=caption, dialogues=dialogues, source=SOURCE)


def test_a_short_caption_takes_a_brief_question_and_a_long_one_a_detailed_one(domain: Domain) -> None:
    short, long = "A nodule. " * 14, "A nodule. " * 15  # 28 and 30 words
    for number in range(40):
        brief = align_sample(lesson(str(number), short), "x.png", domain, seed=0).turns[0].text
        detailed = align_sample(lesson(str(number), long), "x.png", domain, seed=0).turns[0].text
        assert brief.removeprefix("<image>\n") in domain.align["brief"]
        assert detailed.removeprefix("<image>\n") in domain.align["detailed"]


def test_all_questions_are_used_and_each_depends_on_seed_and_id_alone(domain: Domain) -> None:
    asked = [align_sample(lesson(str(n), "A nodule."), "x", domain, seed=1).turns[0].text for n in range(400)]
    again = [align_sample(lesson(str(n), "A nodule."), "x", domain, seed=1).turns[0].text for n in reversed(range(400))]
    assert asked == again[::-1]
    assert len(set(asked)) == len(domain.align["brief"])
    assert asked != [align_sample(lesson(str(n), "A nodule."), "x", domain, 2).turns[0].text for n in range(400)]


def test_the_picture_stands_before_the_first_question_only() -> None:
    two = lesson(
        "a", "A nodule.", Dialogue((("Q1", "A1"), ("Q <image> 2", "A2"))), Dialogue((("Q3", "A3"),), name="para")
    )
    first, second = instruct_samples(two, "x.png")
    assert [turn.text for turn in first.turns] == ["<image>\nQ1", "A1", "Q  2", "A2"]
    assert (first.id, second.id, second.images) == ("a", "a-para", ("x.png",))
