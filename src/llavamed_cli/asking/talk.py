"""What has been said and shown in one conversation: a plain value, changed by making another.

The pictures travel in the human turns, as `<image>` markers, so that the model's chat template decides where they go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from llavamed_cli.errors import UsageError
from llavamed_cli.model.picture import Picture
from llavamed_cli.records import IMAGE_MARKER, Turn


@dataclass(frozen=True, kw_only=True)
class Talk:
    """turns: human and gpt in turn. pictures: those of the turns, in the order of their markers.

    waiting: pictures shown since the last question; the next one is about them too.
    """

    turns: tuple[Turn, ...] = ()
    pictures: tuple[Picture, ...] = field(default=(), repr=False)
    waiting: tuple[Picture, ...] = field(default=(), repr=False)

    def showing(self, pictures: Sequence[Picture]) -> Talk:
        """With more pictures for the next question."""
        return replace(self, waiting=(*self.waiting, *pictures))

    def asking(self, question: str) -> Talk:
        """With a question, before which the waiting pictures stand, unless it says by markers where each belongs.

        Raises:
            UsageError: it is empty, or has markers in another number than pictures wait.
        """
        words = question.strip()
        marked = words.count(IMAGE_MARKER)
        if not words.replace(IMAGE_MARKER, "").strip():
            raise UsageError("the question is empty")
        if marked and marked != len(self.waiting):
            raise UsageError(
                f"the question has {marked} {IMAGE_MARKER} marker(s), and {len(self.waiting)} new picture(s) are shown",
                hint="Leave the markers out: the pictures then stand before the question.",
            )
        text = words if marked else f"{IMAGE_MARKER}\n" * len(self.waiting) + words
        turn = Turn(speaker="human", text=text)
        return Talk(turns=(*self.turns, turn), pictures=(*self.pictures, *self.waiting))

    def answered(self, answer: str) -> Talk:
        """With the answer to the question that stands last."""
        return replace(self, turns=(*self.turns, Turn(speaker="gpt", text=answer)))

    def answered_instead(self, answer: str) -> Talk:
        """With another answer in the place of the last one, which nobody has seen."""
        return replace(self, turns=(*self.turns[:-1], Turn(speaker="gpt", text=answer)))

    def taken_back(self) -> Talk:
        """Without the last question and its answer; the pictures that came with it wait again."""
        before = self.turns[:-2] if self.turns and self.turns[-1].speaker == "gpt" else self.turns[:-1]
        kept = sum(turn.text.count(IMAGE_MARKER) for turn in before if turn.speaker == "human")
        return Talk(turns=before, pictures=self.pictures[:kept], waiting=(*self.pictures[kept:], *self.waiting))

    def begun_again(self) -> Talk:
        """Nothing said yet about the same pictures."""
        return Talk(waiting=(*self.pictures, *self.waiting))

    @property
    def last_question(self) -> str | None:
        """The words of the last question, without markers."""
        asked = [turn.text for turn in self.turns if turn.speaker == "human"]
        return asked[-1].replace(IMAGE_MARKER, "").strip() if asked else None
