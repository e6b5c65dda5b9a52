"""A benchmark's training questions as lessons: conversations as they were asked, and a caption where one can be made.

A question and its paraphrase never share a conversation, or the second would be answered by the first; nor do two
languages. Turns are shuffled by the seed: in the file, a picture's questions follow an annotator's habits. Captions
are composed by rule from the same training annotations, and their source says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from llavamed_cli.benchmarks.open_benchmark import BenchmarkName
from llavamed_cli.benchmarks.reading import BenchmarkRead
from llavamed_cli.corpus.composed_captions import VQA_RAD, Conventions, can_compose, compose_caption, told_modality
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Dialogue, Lesson, generator
from llavamed_cli.corpus.screening.exclude import Excluded
from llavamed_cli.corpus.screening.licenses import normalise_license
from llavamed_cli.corpus.screening.picture_hash import hash_picture
from llavamed_cli.corpus.screening.stages import Rejection, place
from llavamed_cli.errors import PictureError
from llavamed_cli.files import file_sha256
from llavamed_cli.model.images import open_picture
from llavamed_cli.records import Question, Source

CONVENTIONS: Mapping[str, Conventions] = {"vqa-rad": VQA_RAD}
NO_CAPTIONS = "No captions are composed: that takes annotations, in English, of how a picture was made or of what."


def benchmark_lessons(read: BenchmarkRead, name: BenchmarkName, domain: Domain, seed: int) -> Iterator[Lesson]:
    """Yield one lesson a picture, in the file's order of pictures.

    Args:
        read: the training split; test questions must not come here.
        domain: its words for modalities, planes and regions.
    """
    conventions = CONVENTIONS.get(name.kind, {})
    source = _source(read, name)
    composed = replace(
        source, citation=f"Composed by rule from the training questions' annotations of: {read.citation or name.title}"
    )
    for image, questions in by_picture(read.questions).items():
        identity = "-".join((_prefix(name), *Path(image).with_suffix("").parts))
        composing = can_compose(questions)
        yield Lesson(
            id=identity,
            picture=questions[0].picture,
            caption=compose_caption(questions, domain, conventions) if composing else None,
            dialogues=_dialogues(identity, questions, seed),
            source=source,
            caption_source=composed if composing else None,
            modality=told_modality(questions, domain, conventions),
        )


def by_picture(questions: Iterable[Question]) -> dict[str, list[Question]]:
    """The questions about each picture, in their order."""
    by_image: dict[str, list[Question]] = {}
    for question in questions:
        by_image.setdefault(question.image, []).append(question)
    return by_image


def composes_captions(read: BenchmarkRead) -> bool:
    """Whether any picture's questions say enough for a caption."""
    return can_compose(read.questions)


def without_tested(
    lessons: Iterable[Lesson], excluded: Excluded, reject: Callable[[Rejection], None]
) -> Iterator[Lesson]:
    """The lessons about pictures that are not excluded. One that cannot be read goes on, to be set aside as that."""
    for lesson in lessons:
        tested = _excluded_as(lesson, excluded)
        if tested is None:
            yield lesson
            continue
        where = place(lesson.source, str(lesson.picture))
        reason = "picture of an excluded set"
        reject(Rejection(id=lesson.id, stage="duplicate", reason=reason, where=where, detail=tested))


def _excluded_as(lesson: Lesson, excluded: Excluded) -> str | None:
    """The excluded picture that a lesson's is, if it is any."""
    if not isinstance(lesson.picture, Path):
        return None
    try:
        found = excluded.find(file_sha256(lesson.picture), hash_picture(open_picture(lesson.picture)))
    except PictureError:
        return None
    return found.id if found else None


def _source(read: BenchmarkRead, name: BenchmarkName) -> Source:
    return Source(
        kind="questions" if name.kind in ("jsonl", "table") else _prefix(name) if name.hub is None else "hub",
        file=str(name.place) if name.place is not None else name.text,
        license=normalise_license(read.license or "") or read.license,
        citation=read.citation,
    )


def _prefix(name: BenchmarkName) -> str:
    """What ids begin with: the benchmark, not the part of it that one language is."""
    return "slake" if name.kind.startswith("slake") else name.title


def _dialogues(identity: str, questions: Iterable[Question], seed: int) -> tuple[Dialogue, ...]:
    """One conversation a phrasing and language, in an order that the seed decides."""
    parts: dict[str, list[Question]] = {}
    for question in questions:
        parts.setdefault(_conversation(question), []).append(question)
    dialogues = []
    for part, asked in parts.items():
        generator(seed, part, identity).shuffle(asked)
        dialogues.append(Dialogue(tuple((question.text, question.answer) for question in asked), name=part))
    return tuple(dialogues)


def _conversation(question: Question) -> str:
    named = question.phrasing or "asked"
    return named if question.language == "en" else f"{named}-{question.language}"
