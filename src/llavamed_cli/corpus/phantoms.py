"""Phantoms as lessons: a caption and a conversation that code wrote about a picture that code drew, of no patient."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from llavamed_cli.corpus.lessons import Dialogue, Lesson
from llavamed_cli.corpus.pictures import Drawing
from llavamed_cli.phantoms import CITATION, DESCRIBE, Phantom, caption, draw_phantoms, questions
from llavamed_cli.records import Source

if TYPE_CHECKING:
    from PIL.Image import Image


def phantom_lessons(count: int, seed: int) -> Iterator[Lesson]:
    """Yield `count` training phantoms. Their questions stay in the order given: no turn tells a later one's answer.

    Last of all the caption is asked for. It tells every side and size, where the questions ask for a few of them: a
    model made from nothing learns to see them from captions long before it learns it from yes and no.
    """
    for phantom in draw_phantoms(count, split="train", seed=seed):
        told = caption(phantom)
        asked = ((question.text, question.answer) for question in questions(phantom))
        exchanges = (*asked, (DESCRIBE, told))
        yield Lesson(
            id=phantom.id,
            picture=Drawing(phantom.id, partial(_draw, phantom)),
            caption=told,
            dialogues=(Dialogue(exchanges),),
            source=Source(kind="phantoms", citation=CITATION),
            modality=phantom.modality,
        )


def _draw(phantom: Phantom) -> Image:
    return phantom.picture
