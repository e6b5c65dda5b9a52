"""A CLIP chooses among the closed answers: the one whose words fit the picture best (zero-shot).

A CLIP cannot write, so open questions have no answer and count as wrong. It matches words with pictures and does not
reason: negations and counts are known to be beyond it, and a yes or no is close to a coin toss for most. Published
scores of PubMedCLIP on these benchmarks are of classifiers trained on their answers, and are not what this measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from llavamed_cli.evaluation.answerers.answerer import by_picture
from llavamed_cli.evaluation.answerers.clip_texts import possible_answers, ways_to_say
from llavamed_cli.records import Answer, Question

if TYPE_CHECKING:
    import torch

    from llavamed_cli.model.clip import Clip

WAYS_KEPT = 256
"""Readings of texts that are kept, since benchmarks ask the same of many pictures: 50 MB at 100 answers."""


class ClipChoice:
    """Chooses among a question's own choices, yes and no, or the benchmark's closed answers; see `clip_texts.py`.

    Args:
        load: opens the CLIP when the first question is asked.
        closed_answers: those of the training questions, the most frequent first.
        closed_from: where they are from, for the report.
    """

    def __init__(
        self, load: Callable[[], Clip], closed_answers: Sequence[str], *, closed_from: str = "the training questions"
    ) -> None:
        self._load = load
        self._closed = tuple(dict.fromkeys(text.strip().lower() for text in closed_answers if text.strip()))
        self._read = lru_cache(maxsize=WAYS_KEPT)(self._read_way)
        self.decoding = (
            "CLIP, zero-shot: yes or no, or the closed answer, whose texts fit the picture best, the mean of up to 3 "
            f"ways to say it; closed answers of {closed_from}; it cannot write, so open questions are unanswered, and "
            "it reads words, not negation or number"
        )

    def batches(self, questions: Sequence[Question]) -> list[tuple[Question, ...]]:
        """A picture's questions together."""
        return by_picture(questions)

    def prompt(self, question: Question) -> str:
        """The texts that are compared with the picture, a line for each answer; nothing for an open question."""
        answers = possible_answers(question, self._closed)
        return "\n".join(" | ".join(said) for said in zip(*ways_to_say(question, answers), strict=True))

    def answer(self, batch: Sequence[Question]) -> list[Answer | None]:
        """The best of the choices, its share of them as confidence. Raises PictureError, ModelError."""
        if all(question.answer_type == "open" for question in batch):
            return [None] * len(batch)
        from llavamed_cli.model.images import open_picture

        picture = self._clip.pictures([open_picture(batch[0].picture)])
        return [self._choose(question, picture) for question in batch]

    def _choose(self, question: Question, picture: torch.Tensor) -> Answer | None:
        answers = possible_answers(question, self._closed)
        if not answers:
            return None
        (shares,) = self._clip.shares(picture, self._vectors(ways_to_say(question, answers))).tolist()
        best = max(range(len(shares)), key=shares.__getitem__)
        return Answer(question_id=question.id, text=answers[best], confidence=shares[best])

    def _vectors(self, ways: Sequence[tuple[str, ...]]) -> torch.Tensor:
        """Float [answers, width], each of length 1: the mean of what is said in all ways.

        A way in which a text is too long to be read whole is left out, for what is cut off may be the answer; of ways
        that all are, the last is kept, which begins with the answer.
        """
        import torch

        read = [self._read(way) for way in ways]
        whole = [vectors for vectors, cut in read if not cut] or [read[-1][0]]
        mean = torch.stack(whole).mean(0)
        return mean / mean.norm(dim=-1, keepdim=True)

    def _read_way(self, texts: tuple[str, ...]) -> tuple[torch.Tensor, bool]:
        vectors, truncated = self._clip.texts(texts)
        return vectors, any(truncated)

    @cached_property
    def _clip(self) -> Clip:
        return self._load()
