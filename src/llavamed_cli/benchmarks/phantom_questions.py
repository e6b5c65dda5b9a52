"""Phantoms as a benchmark: pictures drawn by code, so that every answer is known exactly and none can be remembered.

No patient is behind them. A model that answers them has looked; how well it reads real pictures they do not tell.
"""

from __future__ import annotations

from pathlib import Path

from llavamed_cli.benchmarks.reading import BenchmarkRead, KnownAnswer, Split
from llavamed_cli.phantoms import draw_phantoms
from llavamed_cli.phantoms import questions as ask_about
from llavamed_cli.records import Question

NOTE = "Phantoms: pictures drawn by code, no patient. They show whether a model looks, not whether it knows medicine."


def read_phantoms(count: int, folder: Path, split: Split, seed: int) -> BenchmarkRead:
    """Draw `count` phantoms of a split into `folder` as PNG files, and ask every question about each."""
    folder.mkdir(parents=True, exist_ok=True)
    questions: list[Question] = []
    for phantom in draw_phantoms(count, split=split, seed=seed):
        picture = folder / f"{phantom.id}.png"
        phantom.picture.save(picture)
        questions.extend(
            Question(
                id=f"{phantom.id}-{number}",
                image=picture.name,
                picture=picture,
                text=asked.text,
                answer=asked.answer,
                answer_type=asked.answer_type,
                question_types=(asked.question_type,),
                modality=phantom.modality,
            )
            for number, asked in enumerate(ask_about(phantom))
        )
    return BenchmarkRead(questions=tuple(questions), notes=(NOTE,))


def phantom_answers(count: int, seed: int) -> tuple[KnownAnswer, ...]:
    """The answers about `count` phantoms of the training split."""
    return tuple(
        (asked.answer_type, asked.answer)
        for phantom in draw_phantoms(count, split="train", seed=seed)
        for asked in ask_about(phantom)
    )
