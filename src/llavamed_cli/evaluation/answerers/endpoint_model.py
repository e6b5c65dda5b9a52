"""A model behind an OpenAI-compatible server answers: many questions in flight, each journaled and paid for once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

from llavamed_cli.endpoint.asking import Asker, OneAtATime
from llavamed_cli.endpoint.pictures import Part, picture_part, text_part
from llavamed_cli.endpoint.requests import CUT, Message
from llavamed_cli.progress import Progress
from llavamed_cli.records import IMAGE_MARKER, Answer, Question

PICTURES_AT_ONCE = 32
"""Encoded pictures kept while their questions are asked: tens of megabytes."""


class QuestionMessages:
    """A question as a server is asked it: the picture, then the question's own words; blind, the words alone."""

    def __init__(self, *, blind: bool) -> None:
        from llavamed_cli.model.images import open_picture

        self.blind = blind
        self._encoded = lru_cache(maxsize=PICTURES_AT_ONCE)(lambda path: picture_part(open_picture(path)))
        self._encoding = OneAtATime()

    def __call__(self, question: Question) -> list[Message]:
        if self.blind:
            return [{"role": "user", "content": question.text}]
        return [{"role": "user", "content": [self._part(question.picture), text_part(question.text)]}]

    def _part(self, picture: Path) -> Part:
        """Encoded once, though threads ask several questions about it at a time."""
        with self._encoding(str(picture)):
            return self._encoded(picture)


class EndpointModel:
    """Answers with what the server behind `open_asker` says, in the order of the questions.

    Args:
        open_asker: opens the journal and connects; called when the first question is asked.
    """

    asks_alone = True

    def __init__(
        self,
        open_asker: Callable[[], AbstractContextManager[Asker[Question]]],
        *,
        blind: bool,
        max_new_tokens: int,
        progress: Progress,
    ) -> None:
        self._open_asker = open_asker
        self._blind = blind
        self._progress = progress
        self.decoding = f"temperature 0, at most {max_new_tokens} new tokens" + (", no picture" if blind else "")

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """One batch, a picture's questions side by side: what is in flight is the server's business."""
        return [tuple(sorted(questions, key=lambda question: question.image))]

    def prompt(self, question: Question) -> str:
        """The question, behind the picture's marker where it is asked with the picture."""
        return question.text if self._blind else f"{IMAGE_MARKER}\n{question.text}"

    def answer(self, batch: Sequence[Question]) -> Iterator[Answer | None]:
        """Ask the server; what its journal holds is not asked again.

        Raises:
            EndpointError, UsageError, DataError: as `open_asker` and `Asker.answers` say.
        """
        faults: Counter[str] = Counter()
        with self._open_asker() as asker:
            for question, answered in zip(batch, asker.answers(batch), strict=True):
                if answered.fault is not None:
                    faults[answered.fault] += 1
                text = answered.text
                yield None if text is None else Answer(question_id=question.id, text=text.strip())
            for fault, count in faults.items():
                counted = "scored as it is" if fault == CUT else "counted as wrong"
                self._progress.note(f"{asker.endpoint.model}: {count} question(s): {fault}; {counted}")
            self._progress.note(f"{asker.endpoint.model}: answered; this run so far: {asker.purse.spent()['told']}")
