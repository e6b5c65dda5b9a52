"""What one picture teaches, whatever source it came from, and how that becomes samples to align and to tune on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.pictures import Drawing, Staged
from llavamed_cli.corpus.screening.captions import word_count
from llavamed_cli.records import IMAGE_MARKER, Sample, Source, Turn

BRIEF_BELOW = 30
"""Words: a shorter caption answers a brief question, a longer one a detailed one (LLaVA-Med, arXiv 2306.00890)."""

Exchange = tuple[str, str]
"""A question and its answer."""


@dataclass(frozen=True)
class Dialogue:
    """A conversation about a picture. name: tells it from the picture's others, "" where it is the only one."""

    exchanges: tuple[Exchange, ...]
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A picture with its caption, if it has one, and conversations.

    source: where they come from; caption_source: where the caption does, if that is another thing to say.
    quality: of the caption, 0 to 1, and its parts. evidence: the words that gave the modality.
    """

    id: str
    picture: Path | Drawing | Staged
    caption: str | None
    dialogues: tuple[Dialogue, ...]
    source: Source
    caption_source: Source | None = None
    modality: str | None = None
    quality: float | None = None
    quality_parts: Mapping[str, float] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()


def align_sample(lesson: Lesson, image: str, domain: Domain, seed: int) -> Sample | None:
    """The caption, if there is one, as the answer to one of the domain's questions, brief or detailed by its length."""
    if lesson.caption is None:
        return None
    length = "brief" if word_count(lesson.caption) < BRIEF_BELOW else "detailed"
    question = generator(seed, "align", lesson.id).choice(domain.align[length])
    return Sample(
        id=lesson.id,
        images=(image,),
        turns=_turns([(question, lesson.caption)]),
        modality=lesson.modality,
        quality=lesson.quality,
        source=lesson.caption_source or lesson.source,
    )


def instruct_samples(lesson: Lesson, image: str) -> list[Sample]:
    """One sample a dialogue."""
    return [
        Sample(
            id=f"{lesson.id}-{dialogue.name}" if dialogue.name else lesson.id,
            images=(image,),
            turns=_turns(dialogue.exchanges),
            modality=lesson.modality,
            quality=lesson.quality,
            source=lesson.source,
        )
        for dialogue in lesson.dialogues
    ]


def generator(seed: int, purpose: str, identity: str) -> random.Random:
    """A generator of one record's own, so that no record's randomness depends on which others were read before it."""
    return random.Random(f"{seed}/{purpose}/{identity}")


def _turns(exchanges: list[Exchange] | tuple[Exchange, ...]) -> tuple[Turn, ...]:
    turns = []
    for number, (question, answer) in enumerate(exchanges):
        asked = _without_marker(question)
        turns.append(Turn(speaker="human", text=asked if number else f"{IMAGE_MARKER}\n{asked}"))
        turns.append(Turn(speaker="gpt", text=_without_marker(answer)))
    return tuple(turns)


def _without_marker(text: str) -> str:
    """Text that stands for no picture; also what is left when a marker is taken out of another's middle."""
    while IMAGE_MARKER in text:
        text = text.replace(IMAGE_MARKER, "")
    return text.strip()
