"""How a model in training does on samples it does not learn from: their loss, and a few answers beside the wanted ones.

The loss is the mean over all supervised tokens, packed and computed as in training, so that the two may be compared. No
random number is drawn, so that a run with validations learns bit for bit what it learns without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llavamed_cli.conversation_format import read_samples
from llavamed_cli.errors import TrainingError
from llavamed_cli.model.chat import picture_first
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.images import open_picture
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.progress import Progress
from llavamed_cli.records import IMAGE_MARKER, Sample, Turn
from llavamed_cli.training.autocast import computing
from llavamed_cli.training.data_files import DataFile
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.features import Features
from llavamed_cli.training.layout import lay_row
from llavamed_cli.training.packing import plan_epoch
from llavamed_cli.training.recipe import Recipe
from llavamed_cli.training.samples import read_examples
from llavamed_cli.training.step import row_loss

SHOWN = 4
"""Answers shown at each validation."""
NEW_TOKENS = 48
"""Of an answer shown, at most."""


@dataclass(frozen=True)
class Asked:
    """A question to show an answer to: the first of a sample. wanted: the sample's own answer."""

    id: str
    turns: tuple[Turn, ...]
    pictures: tuple[Path, ...]
    wanted: str


@dataclass(frozen=True)
class ValidationSet:
    """Samples to validate on, and the questions that are shown."""

    examples: ExampleSet = field(repr=False)
    asked: tuple[Asked, ...]


@dataclass(frozen=True)
class Answer:
    """One question's answer beside the one wanted."""

    id: str
    question: str
    wanted: str
    given: str

    def line(self) -> str:
        """For a person."""
        return f"{self.id}: {self.question}  wanted {self.wanted!r}, given {self.given!r}"


@dataclass(frozen=True)
class Validation:
    """loss: mean over `tokens` supervised tokens."""

    loss: float
    tokens: int
    answers: tuple[Answer, ...]


def open_validation(file: DataFile, loaded: LoadedModel, progress: Progress) -> ValidationSet:
    """Read the samples of a file as training data is read, and choose questions evenly among them.

    Raises:
        DataError, UsageError: as `read_examples`. TrainingError: no sample of it can be used.
    """
    model: Any = loaded.model
    examples = read_examples(
        [file],
        loaded.chat,
        image_length=loaded.image_length,
        context=model.config.text_config.max_position_embeddings,
        progress=progress,
    )
    if not len(examples) or not int(examples.supervised.sum()):
        reasons = "".join(f"\n    {fault}" for fault in examples.faults[:10])
        raise TrainingError(f"no sample can be validated on{':' if reasons else ''}{reasons}", where=str(file.path))
    count = min(SHOWN, len(examples))
    chosen = examples.example_ids(number * len(examples) // count for number in range(count))
    return ValidationSet(examples, tuple(_questions(file, chosen)))


def validate(loaded: LoadedModel, validation: ValidationSet, recipe: Recipe, features: Features) -> Validation:
    """The model's loss and answers as it is now; it goes on training as if nothing had been.

    Args:
        recipe: how rows are laid out, which the loss does not depend on. features: what the tower sees of pictures.

    Raises:
        PictureError: a picture cannot be read any more.
    """
    import torch

    examples = validation.examples
    total, tokens = 0.0, 0
    with _at_rest(loaded.model), torch.no_grad(), computing(loaded):
        for step in plan_epoch(examples, recipe, seed=0, epoch=0):
            for row in step:
                packed = lay_row(examples, row, share=recipe.share_pictures).to(loaded.device)
                seen = features.of(packed.pictures) if packed.pictures else None
                total += float(row_loss(loaded.model, packed, seen))
                tokens += len(packed.targets)
        answers = _answers(loaded, validation.asked)
    return Validation(loss=total / tokens, tokens=tokens, answers=answers)


@contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """Without dropout; each part then trains again if it did."""
    training = {name: part.training for name, part in model.named_modules()}
    model.eval()
    try:
        yield
    finally:
        for name, part in model.named_modules():
            part.training = training[name]


def _questions(file: DataFile, ids: Sequence[str]) -> Iterator[Asked]:
    """The first question of each of these samples, in the order of the file."""
    left = set(ids)
    for _, sample in read_samples(file.path, lambda fault: None):
        if sample.id in left:
            left.remove(sample.id)
            yield _question(file, sample)
        if not left:
            return


def _question(file: DataFile, sample: Sample) -> Asked:
    turns = tuple(picture_first(turn) for turn in sample.turns)
    answered = next(place for place, turn in enumerate(turns) if turn.speaker == "gpt")
    pictures = sum(turn.text.count(IMAGE_MARKER) for turn in turns[:answered])
    return Asked(
        id=sample.id,
        turns=turns[:answered],
        pictures=tuple(file.picture(name) for name in sample.images[:pictures]),
        wanted=turns[answered].text,
    )


def _answers(loaded: LoadedModel, asked: Sequence[Asked]) -> tuple[Answer, ...]:
    prompts = [Prompt(one.turns, tuple(map(open_picture, one.pictures))) for one in asked]
    given = answer_batch(loaded, prompts, max_new_tokens=NEW_TOKENS) if prompts else []
    return tuple(
        Answer(
            id=one.id,
            question=one.turns[-1].text.replace(IMAGE_MARKER, "").strip(),
            wanted=one.wanted,
            given=answer.text,
        )
        for one, answer in zip(asked, given, strict=True)
    )
