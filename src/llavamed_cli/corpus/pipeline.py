"""build-data from end to end: the one place that puts sources, screening, teacher and files in order.

First every source is read and screened, batch by batch, and what passes is spooled; then the figures that are drawn
from the spool are taught and written. Either half goes on where it was when an interrupted run is repeated, and the
files come out the same, byte for byte.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.build_options import BuildOptions
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.data_folder import DataFolder, Tally, open_data_folder
from llavamed_cli.corpus.domain import Domain, load_domain
from llavamed_cli.corpus.engine import open_engine
from llavamed_cli.corpus.lessons import Dialogue, Exchange, Lesson
from llavamed_cli.corpus.pictures import Staged
from llavamed_cli.corpus.report import write_report
from llavamed_cli.corpus.screening.distinct import open_distinct
from llavamed_cli.corpus.screening.license_policy import parse_license_policy
from llavamed_cli.corpus.screening.stages import Rejection, ScreeningRules, reject, screen_batch
from llavamed_cli.corpus.selection import draw_balanced, is_held_out
from llavamed_cli.corpus.sources.open_sources import Sources, locate_all
from llavamed_cli.corpus.spool import Spool, read_spool, write_spool
from llavamed_cli.corpus.teacher.choose import check_teacher, open_teacher
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.progress import Progress
from llavamed_cli.records import Fault
from llavamed_cli.run_record import Run, begin_run

SCRATCH, STAGED = ".scratch", "staged"


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
        FetchError, EndpointError: a server that does not serve; what was fetched and paid for is kept.
    """
    sources = locate_all(options)
    rules = screening_rules(options)
    check_teacher(options, rules.domain)
    run = _begin(options, sources)
    scratch = options.out / SCRATCH
    if run.finished:
        shutil.rmtree(scratch, ignore_errors=True)  # killed while it tidied up
        progress.note(f"{options.out} is built already; nothing to do")
        return BuildResult(out=options.out, figures=run.results)
    if run.resumed:
        progress.note(f"going on in {options.out}, where a run was interrupted")
    spool = read_spool(scratch, options.seed) or _screen(options, rules, sources, progress)
    tally = _Writing(options, rules.domain, spool, progress).write(sources)
    figures = tally.figures()
    if not tally.kept:
        shutil.rmtree(scratch, ignore_errors=True)
        raise DataError(
            f"nothing was kept of {tally.rejected} record(s): {_told(figures['reasons']) or 'the sources are empty'}",
            where=str(options.out),
            hint=f"Each record and its reason stand in {options.out / 'rejected.jsonl'}.",
        )
    run.finish(**figures)
    shutil.rmtree(scratch, ignore_errors=True)
    return BuildResult(out=options.out, figures=figures, faults=tuple(tally.rejections.first))


def screening_rules(options: BuildOptions) -> ScreeningRules:
    """The domain and the options as screening applies them.

    Raises:
        UsageError: an unknown domain, licence or modality. DataError: a domain file with faults.
    """
    domain = load_domain(options.domain)
    wanted = options.screen.modalities
    known = [modality.name for modality in domain.modalities]
    if wanted and (unknown := [name for name in wanted if name not in known]):
        raise UsageError(
            f"--modalities: {', '.join(unknown)} is no modality of the domain {domain.name}",
            hint=f"It has: {', '.join(known)}.",
        )
    return ScreeningRules(
        domain=domain,
        licenses=parse_license_policy(options.screen.license),
        min_quality=options.screen.min_quality,
        charts=options.screen.charts,
        panels=options.screen.panels,
        modalities=frozenset(wanted) if wanted else None,
        clip=options.screen.clip is not None,
    )


def _begin(options: BuildOptions, sources: Sources) -> Run:
    inputs: dict[str, Path | str] = sources.inputs()
    if options.images is not None:
        inputs["--images"] = options.images
    if Path(options.domain).is_file():
        inputs["--domain"] = Path(options.domain)
    if options.screen.clip is not None:
        inputs["--clip"] = options.screen.clip
    for place in options.screen.exclude:
        inputs[f"--exclude {place}"] = place if place.exists() else str(place)  # a benchmark by its name
    return begin_run(options.out, "build-data", options=options.identity(), inputs=inputs, seed=options.seed)


def _screen(options: BuildOptions, rules: ScreeningRules, sources: Sources, progress: Progress) -> Spool:
    """Read and screen every figure, and spool what passes."""
    scratch = options.out / SCRATCH
    engine = open_engine(options.engine, options.workers)
    work = partial(screen_batch, rules=rules, staged=scratch / STAGED)
    enough = None if options.balance else options.limit
    with (
        open_distinct(options.screen, rules, scratch, options.device, progress) as distinct,
        write_spool(scratch, options.seed) as spool,
        progress.bar("screened", total=enough or sources.expected) as bar,
    ):
        for outcome in distinct.sift(engine.map(work, sources.batches(rules, scratch, progress))):
            if isinstance(outcome, Rejection):
                spool.reject(outcome)
            else:
                spool.keep(outcome)
            bar.advance(kept=str(spool.kept), set_aside=str(spool.rejections.total))
            if spool.kept == enough:
                break
    return Spool(scratch, spool.rejections, spool.kept)


@dataclass(frozen=True)
class _Writing:
    """Draws from the spool, has it taught, and writes the data set."""

    options: BuildOptions
    domain: Domain
    spool: Spool
    progress: Progress

    def write(self, sources: Sources) -> Tally:
        options = self.options
        with open_data_folder(options.out, self.domain, options.seed, self.spool, bool(options.validation)) as folder:
            total = options.limit or (sources.expected if sources.direct else None) or self.spool.kept
            with self.progress.bar("written", total=total) as bar:
                for lesson, held_out in self._lessons(sources, folder):
                    if folder.keep(lesson, held_out):
                        bar.advance(questions=str(folder.tally.questions))
                    if folder.tally.kept == options.limit:
                        break
        write_report(options.out, options.sources, folder.tally, folder.shown)
        return folder.tally

    def _lessons(self, sources: Sources, folder: DataFolder) -> Iterator[tuple[Lesson, bool]]:
        with open_teacher(self.options, self.domain, self.progress) as teacher:
            for candidate, taught in teacher.teach(self._drawn(folder)):
                for drop in taught.drops:
                    folder.drop(candidate, drop)
                yield _lesson(candidate, taught.exchanges), self._is_held_out(candidate)
            folder.tally.spent.update(teacher.spent())
        for lesson in sources.lessons(self.domain, self.options.out / SCRATCH, folder.reject, self.progress):
            yield lesson, False

    def _drawn(self, folder: DataFolder) -> Iterator[Candidate]:
        """The figures to be taught. All that are not drawn are told before the first one is taught."""
        if not self.options.balance:
            return self.spool.candidates()
        assert self.options.limit is not None  # checked in BuildOptions
        named = ((item.key, item.modality.name if item.modality else None) for item in self.spool.candidates())
        drawn = draw_balanced(named, self.options.limit, self.options.seed)
        for candidate in self.spool.candidates():
            if candidate.key not in drawn:
                folder.reject(_undrawn(candidate))
        return (candidate for candidate in self.spool.candidates() if candidate.key in drawn)

    def _is_held_out(self, candidate: Candidate) -> bool:
        return is_held_out(candidate, self.options.validation, self.options.seed)


def _lesson(candidate: Candidate, exchanges: tuple[Exchange, ...]) -> Lesson:
    figure, modality = candidate.figure, candidate.modality
    return Lesson(
        id=figure.id,
        picture=Staged(candidate.image, figure.picture),
        caption=figure.caption,
        dialogues=(Dialogue(exchanges),) if exchanges else (),
        source=figure.source,
        modality=modality.name if modality else None,
        quality=candidate.quality.score,
        quality_parts=candidate.quality.parts,
        evidence=modality.evidence if modality else (),
    )


def _undrawn(candidate: Candidate) -> Rejection:
    reason = "not drawn by --balance" if candidate.modality else "no modality to balance by"
    return reject(candidate.figure, "selection", reason)


def _told(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
