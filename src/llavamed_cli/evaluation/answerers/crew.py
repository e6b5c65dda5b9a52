"""Several processes answer one benchmark: the first runs the evaluation, the others answer what it hands them.

    accelerate launch -m llavamed_cli eval ...

Every process holds the model. A batch is dealt by picture, so that no picture is looked at twice, and all meet again
before the next one. What is not a local model's, servers, scores, the report, is the first process's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llavamed_cli.evaluation.answerers.answerer import by_picture
from llavamed_cli.records import Answer, Question
from llavamed_cli.world import ALONE, World

PICTURE = 600
"""What a picture weighs beside a question's letters when work is dealt: about as many tokens as one has."""


@dataclass(frozen=True)
class Asking:
    """How a model's questions are asked."""

    where: str
    blind: bool
    max_new_tokens: int


Work = Callable[[Asking, Sequence[Question]], list[Answer]]
"""Answers questions with the model of an Asking, in order."""


@dataclass(frozen=True)
class Crew:
    """The processes as the first one sees them. work: how it does its own part."""

    work: Work = field(repr=False)
    world: World = ALONE

    @property
    def size(self) -> int:
        """How many answer."""
        return self.world.size

    def answer(self, asking: Asking, questions: Sequence[Question]) -> list[Answer]:
        """Answers in order, each process's part by itself. Raises what fails in any of them."""
        if self.size == 1:
            return self.work(asking, questions)
        hands = deal_by_picture(questions, self.size)
        self.world.exchange((asking, hands))
        found: dict[str, Answer] = {}
        for answers in self.world.exchange(self.work(asking, hands[0])):
            found |= {answer.question_id: answer for answer in answers}
        return [found[question.id] for question in questions]


def dismiss(world: World) -> None:
    """Tell the others that nothing is left to be answered."""
    if world.leads:
        world.exchange(None)


def help_answering(world: World, work: Work) -> None:
    """What the other processes do until they are dismissed."""
    while True:
        handed = world.exchange(None)[0]
        if handed is None:
            return
        asking, hands = handed
        world.exchange(work(asking, hands[world.rank]))


def deal_by_picture(questions: Sequence[Question], size: int) -> list[list[Question]]:
    """Questions for each of `size` processes, a picture's together: the heaviest first, each to the least laden."""

    def weight(group: Sequence[Question]) -> int:
        return PICTURE + sum(len(question.text) for question in group)

    hands: list[list[Question]] = [[] for _ in range(size)]
    laden = [0] * size
    for group in sorted(by_picture(questions), key=weight, reverse=True):
        place = laden.index(min(laden))
        hands[place] += group
        laden[place] += weight(group)
    return hands
