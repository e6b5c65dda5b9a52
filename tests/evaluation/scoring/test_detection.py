"""Which questions ask for something wrong or there, and what a positive answer to them is."""

from __future__ import annotations

from pathlib import Path

import pytest

from llavamed_cli.benchmarks.slake import read_slake
from llavamed_cli.evaluation.scoring.detection import ASKS_FOR_NORMAL, detection_kinds, says_positive
from llavamed_cli.records import AnswerType, Question


def asked(text: str, answer: str, *types: str, kind: AnswerType = "closed") -> Question:
    picture = Path("x.png")
    return Question(
        id="1", image="x.png", picture=picture, text=text, answer=answer, answer_type=kind, question_types=types
    )


@pytest.mark.parametrize(
    ("text", "answer", "positive"),
    [
        ("Is the liver normal?", "No", True),
        ("Does this look like a healthy liver?", "Yes", False),
        ("Are there abnormalities in this image?", "Yes", True),
        ("Is the lung unhealthy?", "No", False),
        ("Is the liver abnormal?", "No", False),
        ("Are the lungs normal appearing?", "I cannot say", None),
        ("肺是健康的吗?", "不是", True),
        ("这张图片看起来是否正常?", "是的", False),
        ("肺看起来不正常吗?", "是的", True),
        ("病人的左肺有异常吗?", "没有", False),
    ],
)
def test_positive_is_what_is_not_normal(text: str, answer: str, positive: bool | None) -> None:
    assert says_positive("abnormality", asked(text, "Yes", "Abnormality"), answer) is positive


def test_presence_is_what_is_there_normal_or_not() -> None:
    assert says_positive("presence", asked("Is the trachea normal?", "yes", "PRES"), "yes") is True


def test_kinds() -> None:
    assert detection_kinds(asked("Is it normal?", "no", "ABN", "PRES")) == {"abnormality", "presence"}
    assert detection_kinds(asked("Is it normal?", "no", "POS")) == set()
    assert detection_kinds(asked("Is it normal or abnormal?", "abnormal", "ABN")) == set()
    assert detection_kinds(asked("Is anything not normal?", "yes", "ABN")) == set()
    assert detection_kinds(asked("Is there a nodule?", "no", "PRES", kind="open")) == set()


def test_slake_s_questions(shared: Path) -> None:
    """In both languages: those that ask for the normal are turned, and most pictures of patients are not normal."""
    for language in ("en", "zh"):
        read = read_slake(shared / "data" / "slake" / "test.json", None, "test", (language,))
        chosen = [one for one in read.questions if "abnormality" in detection_kinds(one)]
        turned = [one for one in chosen if ASKS_FOR_NORMAL.search(one.text)]
        assert len(chosen) > 60 and len(turned) > 10
        assert not [one.text for one in chosen if says_positive("abnormality", one, one.answer) is None]
        assert not [one.text for one in turned if "abnormal" in one.text.lower() or "不正常" in one.text]
