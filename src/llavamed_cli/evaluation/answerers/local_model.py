"""A model folder answers, greedily; blind, it gets the same question without the picture.

A batch holds whole pictures, since what their questions have in common is then read once (`model/answer_many.py`).
Blind questions come in the order of their words, so that the same one is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING

from llavamed_cli.evaluation.answerers.answerer import by_picture
from llavamed_cli.evaluation.answerers.crew import Asking, Crew
from llavamed_cli.records import IMAGE_MARKER, Answer, Question, Turn
from llavamed_cli.world import ALONE, World

if TYPE_CHECKING:
    from PIL.Image import Image

    from llavamed_cli.model.load import LoadedModel
    from llavamed_cli.model.precision import Choice

AT_ONCE = 32
"""Questions of a batch where nobody says otherwise: three pictures of SLAKE. More save little beside the reading, and
an interruption loses a batch. What does not fit the memory is answered in parts."""


class ModelShelf:
    """Holds the model that was asked for last, so that a model and its blind twin share one, and memory holds one."""

    def __init__(self, device: str, world: World = ALONE) -> None:
        self.on_load: Callable[[str, Mapping[str, Choice]], None] = lambda where, choices: None
        self.crew = Crew(self.answer, world)
        self._device = device
        self._held: tuple[str, LoadedModel] | None = None

    def load(self, where: str) -> LoadedModel:
        """The model at `where`; `on_load` is told when it is loaded. Raises ModelError."""
        from llavamed_cli.model.load import load_model

        if self._held is None or self._held[0] != where:
            self._held = None
            self._held = (where, load_model(where, device=self._device))
            self.on_load(where, {**self._held[1].choices, "answering": _how(self._held[1])})
        return self._held[1]

    def answer(self, asking: Asking, questions: Sequence[Question]) -> list[Answer]:
        """This process's own work. Raises PictureError, ModelError."""
        return answer_questions(self.load(asking.where), asking, questions) if questions else []


class LocalModel:
    """Answers with the model that `load` gives, which is called when the first question is asked."""

    def __init__(
        self,
        load: Callable[[], LoadedModel],
        *,
        blind: bool,
        max_new_tokens: int,
        batch_size: int | None = None,
        crew: Crew | None = None,
        where: str = "",
    ) -> None:
        """Args:
        batch_size: questions answered at once by each process; None leaves it to us.
        crew: the processes that answer together, which find the model at `where`.
        """
        self._asking = Asking(where, blind, max_new_tokens)
        self._crew = crew or Crew(lambda asking, questions: answer_questions(load(), asking, questions))
        self._batch_size = (batch_size or AT_ONCE) * self._crew.size
        self.decoding = f"greedy, at most {max_new_tokens} new tokens" + (", no picture" if blind else "")

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """Batches of whole pictures; one with more questions than a batch takes is cut."""
        batches: list[tuple[Question, ...]] = []
        for group in self._parted(questions):
            if batches and len(batches[-1]) + len(group) <= self._batch_size:
                batches[-1] += group
            else:
                batches.append(group)
        return batches

    def _parted(self, questions: Sequence[Question]) -> Iterator[tuple[Question, ...]]:
        """What is to be asked together: questions about one picture, or the same words."""
        if self._asking.blind:
            ordered = sorted(questions, key=lambda question: (len(question.text), question.text))
            groups = [tuple(group) for _, group in groupby(ordered, key=lambda question: question.text)]
        else:
            groups = by_picture(questions)
        for group in groups:
            for start in range(0, len(group), self._batch_size):
                yield group[start : start + self._batch_size]

    def prompt(self, question: Question) -> str:
        """The human turn: the picture's marker on a line of its own, then the question; blind, the question alone."""
        return _asked(question, blind=self._asking.blind)

    def answer(self, batch: Sequence[Question]) -> list[Answer]:
        """Ask the model. Raises PictureError, ModelError."""
        return self._crew.answer(self._asking, batch)


def answer_questions(loaded: LoadedModel, asking: Asking, questions: Sequence[Question]) -> list[Answer]:
    """Ask a loaded model. Raises PictureError, ModelError."""
    from llavamed_cli.model.answer_many import answer_many
    from llavamed_cli.model.generate import Prompt

    pictures = {} if asking.blind else _opened(questions)
    prompts = [
        Prompt(
            turns=(Turn(speaker="human", text=_asked(question, blind=asking.blind)),),
            pictures=() if asking.blind else (pictures[question.image],),
        )
        for question in questions
    ]
    generated = answer_many(loaded, prompts, max_new_tokens=asking.max_new_tokens)
    return [
        Answer(question_id=question.id, text=made.text, confidence=made.confidence)
        for question, made in zip(questions, generated, strict=True)
    ]


def _asked(question: Question, *, blind: bool) -> str:
    return question.text if blind else f"{IMAGE_MARKER}\n{question.text}"


def _opened(questions: Sequence[Question]) -> dict[str, Image]:
    """Every picture once, by name; several are decoded at a time."""
    from llavamed_cli.model.images import PICTURE_READERS, open_picture

    files = {question.image: question.picture for question in questions}
    with ThreadPoolExecutor(PICTURE_READERS) as readers:
        return dict(zip(files, readers.map(open_picture, files.values()), strict=True))


def _how(loaded: LoadedModel) -> Choice:
    """Whether a picture's questions share their prefix, told and recorded with the other choices."""
    from llavamed_cli.model.precision import Choice
    from llavamed_cli.model.shareable import why_not_shared

    reason = why_not_shared(loaded.model)
    if reason is not None:
        return Choice("padded batches", reason)
    return Choice("shared prefixes", "a picture's questions go on from one reading of it")
