"""The folder that build-data writes: align.jsonl, instruct.jsonl, rejected.jsonl and images/, with running tallies.

The files appear together when the last record is written, or not at all; pictures appear one by one, each whole.
Memory holds one short digest a record (to keep ids apart) and a handful of samples for the report.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from llavamed_cli.conversation_format import sample_to_json
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Lesson, align_sample, instruct_samples
from llavamed_cli.corpus.pictures import keep
from llavamed_cli.corpus.screening.stages import Rejection, place
from llavamed_cli.corpus.spool import Rejections, Spool
from llavamed_cli.corpus.teacher.teaching import Drop
from llavamed_cli.errors import PictureError
from llavamed_cli.files import atomic_write, json_line
from llavamed_cli.records import Sample

ALIGN, INSTRUCT, REJECTED, IMAGES = "align.jsonl", "instruct.jsonl", "rejected.jsonl", "images"
HELD_OUT_ALIGN, HELD_OUT_INSTRUCT = "align.validation.jsonl", "instruct.validation.jsonl"
NOTHING_TO_TEACH = "nothing to teach; kept for alignment alone"
SAMPLES_SHOWN = 12
QUALITY_BINS, LENGTH_BIN = 20, 10
"""Of the report's plots: quality in twentieths, caption length in tens of words."""


@dataclass(frozen=True)
class Shown:
    """A kept lesson for the report: the file of its picture and what was written about it."""

    lesson: Lesson
    picture: Path
    align: Sample | None
    instruct: tuple[Sample, ...]


@dataclass
class Tally:
    """What was kept and set aside so far. dropped: turns of conversations, by reason. spent: on a paid teacher."""

    rejections: Rejections
    kept: int = 0
    align: int = 0
    held_out: int = 0
    instruct: int = 0
    questions: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    modalities: Counter[str] = field(default_factory=Counter)
    qualities: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    spent: dict[str, Any] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """Records of which nothing was kept; those that the teacher passed over are still in align.jsonl."""
        return sum(count for (stage, _), count in self.rejections.reasons.items() if stage != "teacher")

    def figures(self) -> dict[str, Any]:
        """What run.json and --json tell."""
        reasons = self.rejections.reasons
        return {
            "kept": self.kept,
            "rejected": self.rejected,
            "align": self.align,
            "instruct": self.instruct,
            "questions": self.questions,
            "held_out": self.held_out,
            "reasons": {f"{stage}: {reason}": count for (stage, reason), count in reasons.most_common()},
            "dropped_turns": dict(self.dropped.most_common()),
            "licenses": dict(self.licenses.most_common()),
            "modalities": dict(self.modalities.most_common()),
            "teacher": self.spent,
        }


@dataclass(frozen=True)
class _Part:
    """The two files of the training part, or of the validation part."""

    align: IO[str]
    instruct: IO[str]


class DataFolder:
    """Takes lessons and rejections, one at a time. Made by `open_data_folder`."""

    def __init__(
        self,
        out: Path,
        domain: Domain,
        seed: int,
        rejections: Rejections,
        training: _Part,
        held_out: _Part | None,
        rejected: IO[str],
    ) -> None:
        self.tally = Tally(rejections)
        self.shown: list[Shown] = []
        self._images = out / IMAGES
        self._domain = domain
        self._seed = seed
        self._training, self._held_out, self._rejected = training, held_out, rejected
        self._ids: set[bytes] = set()
        self._choice = random.Random(f"{seed}/report")

    def keep(self, lesson: Lesson, held_out: bool = False) -> bool:
        """Write a lesson's picture and samples; if the picture cannot be read, set it aside and return False."""
        try:
            image = keep(lesson.picture, Path(lesson.id).name, self._images)
        except PictureError as error:
            where, detail = place(lesson.source, str(error.where)), f"{Path(error.where or '').name}: {error.what}"
            self.reject(
                Rejection(id=lesson.id, stage="pixels", reason="unreadable picture", where=where, detail=detail)
            )
            return False
        lesson = replace(lesson, id=self._unique(lesson.id))
        align = align_sample(lesson, image, self._domain, self._seed)
        instruct = instruct_samples(lesson, image)
        part = self._held_out if held_out and self._held_out else self._training
        if align is not None:
            part.align.write(json_line(sample_to_json(align)))
            self.tally.align += 1
        for sample in instruct:
            part.instruct.write(json_line(sample_to_json(sample)))
        if not instruct:
            where = place(lesson.source, image)
            self.reject(Rejection(id=lesson.id, stage="teacher", reason=NOTHING_TO_TEACH, where=where))
        self.tally.held_out += held_out
        self._count(lesson, instruct)
        self._remember(Shown(lesson, self._images / image, align, tuple(instruct)))
        return True

    def reject(self, rejection: Rejection) -> None:
        """Write one line of rejected.jsonl."""
        self._rejected.write(json_line(rejection.to_json()))
        self.tally.rejections.add(rejection)

    def drop(self, candidate: Candidate, drop: Drop) -> None:
        """Write a line about a turn that the teacher's dialogue lost; the figure itself may be kept."""
        where = place(candidate.figure.source, candidate.image)
        told = Rejection(id=candidate.figure.id, stage="turn", reason=drop.reason, where=where, detail=drop.detail)
        self._rejected.write(json_line(told.to_json()))
        self.tally.dropped[drop.reason] += 1

    def _count(self, lesson: Lesson, instruct: list[Sample]) -> None:
        tally = self.tally
        tally.kept += 1
        tally.instruct += len(instruct)
        tally.questions += sum(len(sample.turns) // 2 for sample in instruct)
        tally.licenses[lesson.source.license or "not stated"] += 1
        tally.modalities[lesson.modality or "not told"] += 1
        if lesson.caption is not None:
            tally.lengths[len(lesson.caption.split()) // LENGTH_BIN] += 1
        if lesson.quality is not None:
            tally.qualities[min(int(lesson.quality * QUALITY_BINS), QUALITY_BINS - 1)] += 1

    def _unique(self, identity: str) -> str:
        """The id, with a number where an earlier record has it."""
        unique, number = identity, 1
        while (digest := hashlib.blake2b(unique.encode("utf-8", "replace"), digest_size=8).digest()) in self._ids:
            number += 1
            unique = f"{identity}~{number}"
        self._ids.add(digest)
        return unique

    def _remember(self, shown: Shown) -> None:
        """Keep a fair sample of all lessons for the report (reservoir sampling, Vitter 1985, algorithm R)."""
        if len(self.shown) < SAMPLES_SHOWN:
            self.shown.append(shown)
        elif (place := self._choice.randrange(self.tally.kept)) < SAMPLES_SHOWN:
            self.shown[place] = shown


@contextmanager
def open_data_folder(out: Path, domain: Domain, seed: int, spool: Spool, validation: bool) -> Iterator[DataFolder]:
    """Open the files of `out` for writing; what an interrupted run left half-written is removed first.

    spool: its rejections come first. validation: whether a part is held out, in files of its own.
    """
    images = out / IMAGES
    images.mkdir(parents=True, exist_ok=True)
    for folder in (out, images):
        for leftover in folder.glob(".*.part"):
            leftover.unlink(missing_ok=True)
    with ExitStack() as files:

        def opened(name: str) -> IO[str]:
            return files.enter_context(atomic_write(out / name))

        rejected = opened(REJECTED)
        held_out = _Part(opened(HELD_OUT_ALIGN), opened(HELD_OUT_INSTRUCT)) if validation else None
        training = _Part(opened(ALIGN), opened(INSTRUCT))
        with spool.rejected_file.open(encoding="utf-8") as stream:
            shutil.copyfileobj(stream, rejected)
        yield DataFolder(out, domain, seed, spool.rejections, training, held_out, rejected)
