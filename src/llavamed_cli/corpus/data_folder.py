"""The folder that build-data writes: align.jsonl, instruct.jsonl, rejected.jsonl and images/, with running tallies.

The three files appear together when the last record is written, or not at all; pictures appear one by one, each whole.
Memory holds one short digest a record (to keep ids apart) and a handful of samples for the report.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from llavamed_cli.conversation_format import sample_to_json
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Lesson, align_sample, instruct_samples
from llavamed_cli.corpus.pictures import Drawing, keep_drawing, keep_picture
from llavamed_cli.corpus.screening import Rejection, place
from llavamed_cli.errors import PictureError
from llavamed_cli.files import atomic_write, json_line
from llavamed_cli.records import Fault, Sample

ALIGN, INSTRUCT, REJECTED, IMAGES = "align.jsonl", "instruct.jsonl", "rejected.jsonl", "images"
NOTHING_TO_TEACH = "no sentence says what is visible; kept for alignment alone"
SAMPLES_SHOWN = 12
FAULTS_REMEMBERED = 10


@dataclass(frozen=True)
class Shown:
    """A kept lesson for the report: the file of its picture and what was written about it."""

    lesson: Lesson
    picture: Path
    align: Sample
    instruct: tuple[Sample, ...]


@dataclass
class Tally:
    """What was kept and set aside so far. Reasons are counted as (stage, reason)."""

    kept: int = 0
    align: int = 0
    instruct: int = 0
    questions: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    modalities: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)

    @property
    def rejected(self) -> int:
        """Records of which nothing was kept; those that the teacher passed over are still in align.jsonl."""
        return sum(count for (stage, _), count in self.reasons.items() if stage != "teacher")


class DataFolder:
    """Takes lessons and rejections, one at a time. Made by `open_data_folder`."""

    def __init__(
        self, out: Path, domain: Domain, seed: int, align: IO[str], instruct: IO[str], rejected: IO[str]
    ) -> None:
        self.tally = Tally()
        self.shown: list[Shown] = []
        self._images = out / IMAGES
        self._domain = domain
        self._seed = seed
        self._align, self._instruct, self._rejected = align, instruct, rejected
        self._ids: set[bytes] = set()
        self._choice = random.Random(f"{seed}/report")

    def keep(self, lesson: Lesson) -> bool:
        """Write a lesson's picture and samples; if the picture cannot be read, set it aside and return False."""
        try:
            if isinstance(lesson.picture, Drawing):
                image = keep_drawing(lesson.picture, self._images)
            else:
                image = keep_picture(lesson.picture, Path(lesson.id).name, self._images)
        except PictureError as error:
            where, detail = place(lesson.source, str(error.where)), f"{Path(error.where or '').name}: {error.what}"
            rejection = Rejection(id=lesson.id, stage="pixels", reason="unreadable picture", where=where, detail=detail)
            self.reject(rejection)
            return False
        lesson = replace(lesson, id=self._unique(lesson.id))
        align = align_sample(lesson, image, self._domain, self._seed)
        instruct = instruct_samples(lesson, image)
        self._align.write(json_line(sample_to_json(align)))
        for sample in instruct:
            self._instruct.write(json_line(sample_to_json(sample)))
        if not instruct:
            where = place(lesson.source, image)
            self.reject(Rejection(id=lesson.id, stage="teacher", reason=NOTHING_TO_TEACH, where=where))
        self._count(lesson, instruct)
        self._remember(Shown(lesson, self._images / image, align, tuple(instruct)))
        return True

    def reject(self, rejection: Rejection) -> None:
        """Write one line of rejected.jsonl."""
        self._rejected.write(json_line(rejection.to_json()))
        self.tally.reasons[rejection.stage, rejection.reason] += 1
        if rejection.stage != "teacher" and len(self.tally.faults) < FAULTS_REMEMBERED:
            told = f"{rejection.reason} ({rejection.detail})" if rejection.detail else rejection.reason
            self.tally.faults.append(Fault(where=rejection.where, reason=told, record_id=rejection.id))

    def _count(self, lesson: Lesson, instruct: list[Sample]) -> None:
        tally = self.tally
        tally.kept += 1
        tally.align += 1
        tally.instruct += len(instruct)
        tally.questions += sum(len(sample.turns) // 2 for sample in instruct)
        tally.licenses[lesson.source.license or "not stated"] += 1
        tally.modalities[lesson.modality or "not told"] += 1

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
def open_data_folder(out: Path, domain: Domain, seed: int) -> Iterator[DataFolder]:
    """Open the files of `out` for writing; what an interrupted run left half-written is removed first."""
    images = out / IMAGES
    images.mkdir(parents=True, exist_ok=True)
    for folder in (out, images):
        for leftover in folder.glob(".*.part"):
            leftover.unlink(missing_ok=True)
    with (
        atomic_write(out / REJECTED) as rejected,
        atomic_write(out / INSTRUCT) as instruct,
        atomic_write(out / ALIGN) as align,
    ):
        yield DataFolder(out, domain, seed, align, instruct, rejected)
