"""The sources of one build, opened: figures come in batches to be screened, finished lessons as they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llavamed_cli.benchmarks.open_benchmark import BenchmarkName, picture_folder, read_benchmark
from llavamed_cli.corpus.batches import Batch
from llavamed_cli.corpus.benchmark_lessons import (
    NO_CAPTIONS,
    benchmark_lessons,
    composes_captions,
    without_tested,
)
from llavamed_cli.corpus.build_options import BuildOptions
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Lesson
from llavamed_cli.corpus.phantoms import phantom_lessons
from llavamed_cli.corpus.screening.exclude import read_excluded
from llavamed_cli.corpus.screening.stages import Rejection, ScreeningRules, screen_text, unreadable
from llavamed_cli.corpus.sources.articles import article_batches
from llavamed_cli.corpus.sources.hub import hub_batches
from llavamed_cli.corpus.sources.locate import Located, locate
from llavamed_cli.corpus.sources.pairs import pair_batches
from llavamed_cli.corpus.sources.pmc_articles import PmcArticles, read_article_ids
from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.pmc_figures import ArticlePolicy, read_cloud
from llavamed_cli.corpus.sources.pmc_search import search_service
from llavamed_cli.corpus.sources.shards import shard_batches
from llavamed_cli.corpus.sources.tables import table_batches
from llavamed_cli.errors import UsageError
from llavamed_cli.progress import Progress
from llavamed_cli.records import Figure

DIRECT = ("phantoms", "questions")
"""Sources that bring their own conversations: nothing is screened or taught."""


@dataclass(frozen=True)
class Sources:
    """What was asked for, located."""

    located: tuple[Located, ...]
    options: BuildOptions

    @property
    def direct(self) -> bool:
        """Whether every source brings its own conversations."""
        return all(source.kind in DIRECT for source in self.located)

    @property
    def expected(self) -> int | None:
        """How many pictures there will be, where every source says so beforehand."""
        known = all(source.count for source in self.located)
        return sum(source.count for source in self.located) if known else None

    def inputs(self) -> dict[str, Path | str]:
        """What is read, for run.json."""
        return {source.text: source.path or source.text for source in self.located}

    def batches(
        self, rules: ScreeningRules, scratch: Path, progress: Progress, *, fetch: bool = True
    ) -> Iterator[Batch]:
        """The figures of every source that has figures, in their order."""
        for source in self.located:
            yield from self._of(source, rules, scratch, progress, fetch)

    def _of(
        self, source: Located, rules: ScreeningRules, scratch: Path, progress: Progress, fetch: bool
    ) -> Iterator[Batch]:
        images, columns, unpacked = self.options.images, self.options.columns, scratch / "unpacked"
        if source.pmc is not None:
            yield from self._cloud(source.pmc, rules, scratch, progress, fetch)
        elif source.hub is not None:
            yield from hub_batches(source.hub, columns, unpacked, progress)
        elif source.kind == "pairs":
            yield from pair_batches(source.place, images)
        elif source.kind == "articles":
            yield from article_batches(source.place, images, unpacked)
        elif source.kind == "table":
            yield from table_batches(source.place, images, columns, unpacked, progress)
        elif source.kind == "shards":
            yield from shard_batches(source.place, unpacked)

    def _cloud(
        self, articles: PmcArticles, rules: ScreeningRules, scratch: Path, progress: Progress, fetch: bool
    ) -> Iterator[Batch]:
        """Articles of PMC's cloud. What the service answered is this run's own; objects may be kept for others."""
        asked = self.options.cloud
        scratch.mkdir(parents=True, exist_ok=True)

        def wanted(figure: Figure) -> bool:
            return fetch and not isinstance(screen_text(figure, rules), Rejection)

        with PmcCloud(
            asked.url,
            asked.cache or scratch / "pmc",
            concurrency=asked.concurrency,
            progress=progress,
            answers=scratch / "answers.sqlite",
        ) as cloud:
            ids = read_article_ids(articles, cloud, search_service(os.environ), progress)
            yield from read_cloud(cloud, ids, ArticlePolicy(rules.licenses), wanted)

    def lessons(
        self, domain: Domain, scratch: Path, reject: Callable[[Rejection], None], progress: Progress
    ) -> Iterator[Lesson]:
        """The lessons of the sources that bring their own conversations. scratch: for pictures that tables hold."""
        for number, source in enumerate(self.located):
            if source.kind == "phantoms":
                yield from phantom_lessons(source.count, self.options.seed)
            elif source.questions is not None:
                pictures = scratch / f"questions-{number}"
                yield from self._questions(source.questions, pictures, domain, reject, progress)

    def _questions(
        self,
        name: BenchmarkName,
        scratch: Path,
        domain: Domain,
        reject: Callable[[Rejection], None],
        progress: Progress,
    ) -> Iterator[Lesson]:
        pictures = scratch if name.file is None else picture_folder(name, self.options.images)
        read = read_benchmark(name, pictures=pictures, split="train", seed=self.options.seed)
        for note in read.notes:
            progress.note(f"{name.title}: {note}")
        if not composes_captions(read):
            progress.note(f"{name.title}: {NO_CAPTIONS}")
        for fault in read.faults:
            reject(unreadable(fault))
        lessons = benchmark_lessons(read, name, domain, self.options.seed)
        if not self.options.screen.exclude:
            yield from lessons
            return
        scratch.mkdir(parents=True, exist_ok=True)
        with read_excluded(self.options.screen.exclude, scratch / "excluded.sqlite", progress) as excluded:
            yield from without_tested(lessons, excluded, reject)


def locate_all(options: BuildOptions) -> Sources:
    """The sources, with what contradicts them: one twice, phantoms twice, an --out inside one, a missing --images.

    Raises:
        UsageError: any of these.
    """
    sources = tuple(locate(text) for text in options.sources)
    seen: set[str] = set()
    for source in sources:
        key = source.kind if source.kind == "phantoms" else str((source.path or Path(source.text)).resolve())
        if source.questions is not None:
            key += f" {source.questions.kind}"
        if key in seen:
            raise UsageError("this source is given twice", where=source.text)
        seen.add(key)
        if source.path is not None and options.out.resolve().is_relative_to(source.path.resolve()):
            raise UsageError(f"--out lies inside the source {source.text}", where=str(options.out))
        if source.questions is not None and source.questions.kind == "vqa-rad" and options.images is None:
            raise UsageError(
                "VQA-RAD's pictures lie in a folder of their own", where=source.text, hint="Add --images DIR."
            )
    if options.images is not None and not options.images.is_dir():
        raise UsageError("no such folder of pictures", where=str(options.images), hint="Check --images.")
    return Sources(sources, options)
