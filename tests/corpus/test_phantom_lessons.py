from __future__ import annotations

from llavamed_cli.corpus.phantoms import phantom_lessons
from llavamed_cli.corpus.pictures import Drawing
from llavamed_cli.phantoms import draw_phantoms, questions


def test_phantoms_are_called_what_they_are() -> None:
    for lesson in phantom_lessons(5, seed=3):
        assert lesson.source.kind == "phantoms"
        assert lesson.source.citation == "phantom: drawn by code, no patient"
        assert "phantom" in lesson.caption and "phantom" in lesson.id


def test_questions_stay_in_the_order_that_gives_nothing_away() -> None:
    for lesson, phantom in zip(phantom_lessons(20, 3), draw_phantoms(20, split="train", seed=3), strict=True):
        (dialogue,) = lesson.dialogues
        assert dialogue.exchanges == tuple((question.text, question.answer) for question in questions(phantom))
        assert lesson.modality == phantom.modality
        assert isinstance(lesson.picture, Drawing)
