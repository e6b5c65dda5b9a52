from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from llavamed_cli.errors import UsageError
from llavamed_cli.evaluation.answerers.nearest import Nearest
from llavamed_cli.records import Question


def asked(picture: Path, text: str, answer: str = "", kind: str = "open", language: str = "en") -> Question:
    return Question(
        id=f"{picture.stem}-{text}",
        image=picture.name,
        picture=picture,
        text=text,
        answer=answer,
        answer_type=kind,  # type: ignore[arg-type]
        language=language,
    )


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """A disc, the same disc brighter and halved in size, and a bar."""
    drawn = {}
    for name, size, shape, ink in (("disc", 64, "disc", 120), ("bright", 32, "disc", 250), ("bar", 64, "bar", 200)):
        picture = Image.new("L", (size, size), 10)
        box = [size // 4, size // 4, size * 3 // 4, size * 3 // 4]
        draw = ImageDraw.Draw(picture)
        if shape == "disc":
            draw.ellipse(box, fill=ink)
        else:
            draw.rectangle([0, 0, size // 5, size], fill=ink)
        drawn[name] = tmp_path / f"{name}.png"
        picture.save(drawn[name])
    return drawn


def test_the_like_question_about_the_nearest_picture_is_answered(pictures: dict[str, Path]) -> None:
    known = [
        asked(pictures["bar"], "What shape is shown?", "a bar"),
        asked(pictures["disc"], "What shape is shown?", "a disc"),
        asked(pictures["disc"], "Which organ is it?", "liver"),
        asked(pictures["disc"], "Is it round?", "yes", "closed"),
        asked(pictures["disc"], "What shape is shown?", "圆", language="zh"),
    ]
    nearest = Nearest(lambda: known)
    questions = [
        asked(pictures["bright"], "What shape is shown here?"),
        asked(pictures["bright"], "Which organ is it?"),
        asked(pictures["bright"], "Is it large?", kind="closed"),
    ]
    assert [answer and answer.text for answer in nearest.answer(questions)] == ["a disc", "liver", "yes"]
    assert nearest.answer([asked(pictures["bar"], "Was ist das?", language="de")]) == [None]


def test_among_equals_the_first_question_is_answered_and_not_the_last_word(pictures: dict[str, Path]) -> None:
    known = [
        asked(pictures["disc"], "Is there a cyst?", "no", "closed"),
        asked(pictures["disc"], "Is there a mass?", "yes", "closed"),
    ]
    (answer,) = Nearest(lambda: known).answer([asked(pictures["disc"], "Is there a star?", kind="closed")])
    assert answer is not None and answer.text == "no"


def test_without_pictures_to_open_nearest_is_refused(pictures: dict[str, Path], tmp_path: Path) -> None:
    known = [asked(tmp_path / "gone.png", "What?", "this")]
    with pytest.raises(UsageError, match="none of the 1 training pictures"):
        Nearest(lambda: known).answer([asked(pictures["disc"], "What?")])


def test_without_training_questions_nearest_is_refused(pictures: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="--train"):
        Nearest(list).answer([asked(pictures["disc"], "What?")])
