"""The nearest training picture's answer: what a score is worth that could come from having seen the picture before.

A picture is 32 by 32 greys, its brightness and contrast taken out; pictures are near where these correlate. Of the
training questions about the 20 nearest pictures, of the same type and language, the one with the largest share of words
in common is answered; among equals that of the nearest picture, and of its questions the first. Nothing is understood.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.errors import UsageError
from llavamed_cli.evaluation.answerers.answerer import by_picture
from llavamed_cli.evaluation.scoring.strict import words
from llavamed_cli.records import Answer, Question

if TYPE_CHECKING:
    import numpy

SIDE = 32
PICTURES_NEAR = 20
"""One picture has too few questions to find a like one among: of VQA-RAD's closed training questions, each picture left
out in turn, 1 picture answers 41% rightly, 20 pictures 52%, and all of them, which looks at words alone, 58%."""


class Nearest:
    """Answers from training questions.

    Args:
        known: reads the training questions with their pictures; called when the first question is asked.

    Raises:
        UsageError: there are none.
    """

    def __init__(self, known: Callable[[], Sequence[Question]]) -> None:
        self._known = known
        self.decoding = (
            f"the answer to the most alike question about the {PICTURES_NEAR} nearest training pictures (32 x 32 greys)"
        )

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """A picture's questions together."""
        return by_picture(questions)

    def prompt(self, question: Question) -> str:
        """The question."""
        return question.text

    def answer(self, batch: Sequence[Question]) -> list[Answer | None]:
        """An answer for each; None where no training question of the type is near."""
        order = self._nearest(batch[0].picture)
        return [self._answer(question, order) for question in batch]

    def _answer(self, question: Question, order: Sequence[Path]) -> Answer | None:
        asked = set(words(question.text))
        alike = [
            (len(asked & said) / max(1, len(asked | said)), -distance, known)
            for distance, picture in enumerate(order)
            for known, said in self._questions[picture]
            if known.answer_type == question.answer_type and known.language == question.language
        ]
        if not alike:
            return None
        return Answer(question_id=question.id, text=max(alike, key=lambda found: found[:2])[2].answer)

    def _nearest(self, picture: Path) -> list[Path]:
        pictures, greys = self._greys
        likeness = greys @ _grey(picture)
        return [pictures[place] for place in (-likeness).argsort(kind="stable")[:PICTURES_NEAR].tolist()]

    @cached_property
    def _questions(self) -> dict[Path, list[tuple[Question, set[str]]]]:
        """Training questions with their words, by picture."""
        found: dict[Path, list[tuple[Question, set[str]]]] = defaultdict(list)
        for question in self._known():
            found[question.picture].append((question, set(words(question.text))))
        if not found:
            raise UsageError(
                "nearest needs training questions with pictures, and this benchmark brings none",
                hint="Give the training questions, in the same form, with --train FILE.",
            )
        return found

    @cached_property
    def _greys(self) -> tuple[list[Path], numpy.ndarray]:
        """Training pictures, and float32 [pictures, SIDE * SIDE]; one that cannot be opened is left out."""
        import numpy

        from llavamed_cli.errors import PictureError

        pictures, rows = [], []
        for picture in self._questions:
            try:
                rows.append(_grey(picture))
            except PictureError:
                continue
            pictures.append(picture)
        if not rows:
            raise UsageError(
                f"nearest can open none of the {len(self._questions)} training pictures", hint="Check --images."
            )
        return pictures, numpy.stack(rows)


def _grey(picture: Path) -> numpy.ndarray:
    """Float32 [SIDE * SIDE], mean 0 and length 1; all 0 where the picture is of one grey."""
    import numpy

    from llavamed_cli.model.images import open_picture

    small = open_picture(picture).convert("L").resize((SIDE, SIDE))
    greys = numpy.asarray(small, dtype=numpy.float32).ravel()
    greys = greys - greys.mean()
    length = float(numpy.linalg.norm(greys))
    row: numpy.ndarray = greys / length if length else greys
    return row
