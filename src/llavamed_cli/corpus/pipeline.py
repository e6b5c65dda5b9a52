"""build-data from end to end: the one place that puts sources, screening, teacher and files in order.

Figures stream through one at a time. Text is cheap and is always read anew; what is dear, the pictures, is not redone
when an interrupted run is repeated. Either way the files come out the same, byte for byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.vqa_rad import read_vqa_rad
from llavamed_cli.corpus.data_folder import DataFolder, Tally, open_data_folder
from llavamed_cli.corpus.domain import Domain, load_domain
from llavamed_cli.corpus.lessons import Dialogue, Lesson, generator
from llavamed_cli.corpus.phantoms import phantom_lessons
from llavamed_cli.corpus.report import write_report
from llavamed_cli.corpus.screening import Rejection, Screened, screen
from llavamed_cli.corpus.sources.articles import read_articles
from llavamed_cli.corpus.sources.locate import Located, locate
from llavamed_cli.corpus.sources.pairs import read_pairs
from llavamed_cli.corpus.teacher.rules import teach
from llavamed_cli.corpus.vqa_rad import vqa_rad_lessons
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.progress import Progress
from llavamed_cli.records import Fault, Figure
from llavamed_cli.run_record import begin_run

TEACHERS = ("rules",)
SCRATCH = ".scratch"


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What build-data was asked for. limit: how many pictures to keep at most; None for all."""

    sources: tuple[str, ...]
    out: Path
    images: Path | None = None
    domain: str = "biomedical"
    teacher: str = "rules"
    min_quality: float = 0.0
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.teacher not in TEACHERS:
            raise UsageError(f"no teacher {self.teacher!r}; there is: {', '.join(TEACHERS)}")
        if not 0.0 <= self.min_quality <= 1.0:
            raise UsageError(f"--min-quality is {self.min_quality}; a caption's quality is from 0 to 1")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; at least one picture must be kept")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What build-data wrote. figures: as run.json has them. faults: the first few records that this call set aside."""

    out: Path
    figures: dict[str, Any]
    faults: tuple[Fault, ...] = field(default=())


def build_data(options: BuildOptions, progress: Progress) -> BuildResult:
    """Build the data set `options.out`, or find that it is built already.

    Raises:
        UsageError: an unknown source, domain or teacher, something absent, or `out` belongs to another run.
        DataError: a source that cannot be read at all, or nothing was kept; rejected.jsonl says why.
    """
    sources = _locate_all(options)
    domain = load_domain(options.domain)
    run = begin_run(
        options.out,
        "build-data",
        options={
            "sources": options.sources,
            "images": options.images,
            "domain": options.domain,
            "teacher": options.teacher,
            "min_quality": options.min_quality,
            "limit": options.limit,
        },
        inputs=_inputs(sources, options),
        seed=options.seed,
    )
    if run.finished:
        progress.note(f"{options.out} is built already; nothing to do")
        return BuildResult(out=options.out, figures=run.results)
    if run.resumed:
        progress.note(f"going on in {options.out}, where a run was interrupted")
    tally = _Build(options, domain, progress).write(sources)
    figures = _figures(tally)
    if not tally.kept:
        raise DataError(
            f"nothing was kept of {tally.rejected} record(s): {_told(figures['reasons']) or 'the sources are empty'}",
            where=str(options.out),
            hint=f"Each record and its reason stand in {options.out / 'rejected.jsonl'}.",
        )
    run.finish(**figures)
    return BuildResult(out=options.out, figures=figures, faults=tuple(tally.faults))


def _locate_all(options: BuildOptions) -> list[Located]:
    """The sources, with what contradicts them: one twice, phantoms twice, an --out inside one, a missing --images."""
    sources = [locate(text) for text in options.sources]
    seen: set[str] = set()
    for source in sources:
        key = "phantoms" if source.path is None else str(source.path.resolve())
        if key in seen:
            raise UsageError("this source is given twice", where=source.text)
        seen.add(key)
        if source.path is not None and options.out.resolve().is_relative_to(source.path.resolve()):
            raise UsageError(f"--out lies inside the source {source.text}", where=str(options.out))
        if source.kind == "vqa-rad" and options.images is None:
            raise UsageError(
                "VQA-RAD's pictures lie in a folder of their own", where=source.text, hint="Add --images DIR."
            )
    if options.images is not None and not options.images.is_dir():
        raise UsageError("no such folder of pictures", where=str(options.images), hint="Check --images.")
    return sources


def _inputs(sources: list[Located], options: BuildOptions) -> dict[str, Path | str]:
    inputs: dict[str, Path | str] = {source.text: source.path or source.text for source in sources}
    if options.images is not None:
        inputs["--images"] = options.images
    if Path(options.domain).is_file():
        inputs["--domain"] = Path(options.domain)
    return inputs


@dataclass(frozen=True)
class _Build:
    options: BuildOptions
    domain: Domain
    progress: Progress

    @property
    def scratch(self) -> Path:
        return self.options.out / SCRATCH

    def write(self, sources: list[Located]) -> Tally:
        limit = self.options.limit
        try:
            with (
                open_data_folder(self.options.out, self.domain, self.options.seed) as folder,
                self.progress.bar("pictures", total=limit or _expected(sources)) as bar,
            ):
                for lesson in self._lessons(sources, folder):
                    if folder.keep(lesson):
                        bar.advance(kept=str(folder.tally.kept), rejected=str(folder.tally.rejected))
                    if folder.tally.kept == limit:
                        break
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
        write_report(self.options.out, self.options.sources, folder.tally, folder.shown)
        return folder.tally

    def _lessons(self, sources: list[Located], folder: DataFolder) -> Iterator[Lesson]:
        for source in sources:
            if source.kind == "phantoms":
                yield from phantom_lessons(source.count, self.options.seed)
            elif source.kind == "vqa-rad":
                yield from self._vqa_rad(source, folder)
            else:
                yield from self._taught(self._figures(source, folder), folder)

    def _figures(self, source: Located, folder: DataFolder) -> Iterator[Figure]:
        def set_aside(fault: Fault) -> None:
            folder.reject(_unreadable(fault))

        if source.kind == "pairs":
            return read_pairs(source.place, self.options.images, set_aside)
        return read_articles(source.place, self.options.images, self.scratch, set_aside)

    def _vqa_rad(self, source: Located, folder: DataFolder) -> Iterator[Lesson]:
        assert self.options.images is not None  # checked in _locate_all
        read = read_vqa_rad(source.place, self.options.images, "train")
        for note in read.notes:
            self.progress.note(note)
        for fault in read.faults:
            folder.reject(_unreadable(fault))
        yield from vqa_rad_lessons(read, source.place, self.domain, self.options.seed)

    def _taught(self, figures: Iterator[Figure], folder: DataFolder) -> Iterator[Lesson]:
        for figure in figures:
            screened = screen(figure, self.domain, self.options.min_quality)
            if isinstance(screened, Rejection):
                folder.reject(screened)
            else:
                yield self._teach(screened)

    def _teach(self, screened: Screened) -> Lesson:
        figure, modality = screened.figure, screened.modality
        exchanges = teach(figure, modality, self.domain, generator(self.options.seed, "teacher", figure.id))
        return Lesson(
            id=figure.id,
            picture=figure.picture,
            caption=figure.caption,
            dialogues=(Dialogue(exchanges),) if exchanges else (),
            source=figure.source,
            modality=modality.name if modality else None,
            quality=screened.quality.score,
            quality_parts=screened.quality.parts,
            evidence=modality.evidence if modality else (),
        )


def _unreadable(fault: Fault) -> Rejection:
    return Rejection(
        id=fault.record_id, stage="read", reason="unreadable record", where=fault.where, detail=fault.reason
    )


def _expected(sources: list[Located]) -> int | None:
    """How many pictures there will be, where every source says so beforehand."""
    return sum(source.count for source in sources) if all(source.count for source in sources) else None


def _figures(tally: Tally) -> dict[str, Any]:
    return {
        "kept": tally.kept,
        "rejected": tally.rejected,
        "align": tally.align,
        "instruct": tally.instruct,
        "questions": tally.questions,
        "reasons": {f"{stage}: {reason}": count for (stage, reason), count in tally.reasons.most_common()},
        "licenses": dict(tally.licenses.most_common()),
        "modalities": dict(tally.modalities.most_common()),
    }


def _told(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
