"""Phantoms as lessons: a caption and a conversation that code wrote about a picture that code drew, of no patient."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from llavamed_cli.corpus.lessons import Dialogue, Lesson
from llavamed_cli.corpus.pictures import Drawing
from llavamed_cli.phantoms import CITATION, Phantom, caption, draw_phantoms, questions
from llavamed_cli.records import Source

if TYPE_CHECKING:
    from PIL.Image import Image


def phantom_lessons(count: int, seed: int) -> Iterator[Lesson]:
    """Yield `count` training phantoms. Their questions stay in the order given: no turn tells a later one's answer."""
    for phantom in draw_phantoms(count, split="train", seed=seed):
        exchanges = tuple((question.text, question.answer) for question in questions(phantom))
        yield Lesson(
            id=phantom.id,
            picture=Drawing(phantom.id, partial(_draw, phantom)),
            caption=caption(phantom),
            dialogues=(Dialogue(exchanges),),
            source=Source(kind="phantoms", citation=CITATION),
            modality=phantom.modality,
        )


def _draw(phantom: Phantom) -> Image:
    return phantom.picture
