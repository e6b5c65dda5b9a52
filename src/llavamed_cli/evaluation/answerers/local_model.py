"""A model folder answers, greedily; blind, it gets the same question without the picture.

Questions are taken picture by picture, so that each is opened once, and within a few pictures sorted by length, so that
a batch holds little padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from llavamed_cli.records import IMAGE_MARKER, Answer, Question, Turn

if TYPE_CHECKING:
    from llavamed_cli.model.load import LoadedModel
    from llavamed_cli.model.precision import Choice

PICTURES_AT_ONCE = 32
"""Pictures held open while their questions are asked: some 100 MB of megapixel pictures."""


class ModelShelf:
    """Holds the model that was asked for last, so that a model and its blind twin share one, and memory holds one."""

    def __init__(self, device: str) -> None:
        self.on_load: Callable[[str, Mapping[str, Choice]], None] = lambda where, choices: None
        self._device = device
        self._held: tuple[str, LoadedModel] | None = None

    def load(self, where: str) -> LoadedModel:
        """The model at `where`; `on_load` is told when it is loaded. Raises ModelError."""
        from llavamed_cli.model.load import load_model

        if self._held is None or self._held[0] != where:
            self._held = None
            self._held = (where, load_model(where, device=self._device))
            self.on_load(where, self._held[1].choices)
        return self._held[1]


class LocalModel:
    """Answers with the model that `load` gives, which is called when the first question is asked."""

    def __init__(self, load: Callable[[], LoadedModel], *, blind: bool, max_new_tokens: int, batch_size: int) -> None:
        from llavamed_cli.model.images import open_picture

        self._load = load
        self._blind = blind
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size
        self._open = lru_cache(maxsize=PICTURES_AT_ONCE)(open_picture)
        self.decoding = f"greedy, at most {max_new_tokens} new tokens" + (", no picture" if blind else "")

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """Batches of at most `batch_size`, sorted by length within every 32 pictures."""
        return [
            tuple(group[start : start + self._batch_size])
            for group in _by_pictures(questions)
            for start in range(0, len(group), self._batch_size)
        ]

    def prompt(self, question: Question) -> str:
        """The human turn: the picture's marker on a line of its own, then the question; blind, the question alone."""
        return question.text if self._blind else f"{IMAGE_MARKER}\n{question.text}"

    def answer(self, batch: Sequence[Question]) -> list[Answer]:
        """Ask the model. Raises PictureError, ModelError."""
        from llavamed_cli.model.generate import Prompt, answer_batch

        prompts = [
            Prompt(
                turns=(Turn(speaker="human", text=self.prompt(question)),),
                pictures=() if self._blind else (self._open(question.picture),),
            )
            for question in batch
        ]
        generated = answer_batch(self._load(), prompts, max_new_tokens=self._max_new_tokens)
        return [
            Answer(question_id=question.id, text=made.text, confidence=made.confidence)
            for question, made in zip(batch, generated, strict=True)
        ]


def _by_pictures(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """All questions about 32 pictures at a time, the shortest first."""
    place: dict[str, int] = {}
    for question in questions:
        place.setdefault(question.image, len(place) // PICTURES_AT_ONCE)
    ordered = sorted(questions, key=lambda question: (place[question.image], len(question.text), question.id))
    for _, group in groupby(ordered, key=lambda question: place[question.image]):
        yield list(group)
