"""Articles of PubMed Central's cloud to figures: metadata first, full text next, and only the pictures that are wanted.

Articles are read by several threads and come in their order. What is wrong with an article sets it aside, what is
wrong with the server ends the reading; either way nothing that was fetched is fetched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from llavamed_cli.corpus.batches import Batch, FigureList
from llavamed_cli.corpus.screening.license_policy import ANY_LICENSE, LicensePolicy
from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources.articles import with_rejections
from llavamed_cli.corpus.sources.jats import MAX_XML_BYTES, read_article_file
from llavamed_cli.corpus.sources.picture_files import PICTURE_ENDINGS
from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.pmc_metadata import ArticleId, ArticleMetadata
from llavamed_cli.endpoint.in_order import map_in_order
from llavamed_cli.errors import DataError, FetchError
from llavamed_cli.records import Figure, RemoteFile

MAX_PICTURE_BYTES = 256 * 2**20
REPLACED = (".tif", ".tiff", ".gif")
"""What PMC keeps beside a .jpg of the same name: the printer's file and the thumbnail."""


@dataclass(frozen=True)
class ArticlePolicy:
    """Which articles are read at all. Never: retracted ones, scans (OCR), and author manuscripts, whose publisher may
    have kept the figures' rights."""

    licenses: LicensePolicy = ANY_LICENSE

    def refuses(self, article: ArticleMetadata) -> tuple[str, str | None] | None:
        """The reason, with what is particular to this article; None if it may be read."""
        if article.is_retracted:
            return "retracted article", None
        if article.is_ocr:
            return "scanned article (OCR)", None
        if article.is_manuscript:
            return "author manuscript", None
        if not self.licenses.accepts(article.license):
            return "licence not accepted", article.license or "none is stated"
        return None if article.xml else ("article without full text", None)


def read_cloud(
    cloud: PmcCloud,
    articles: Iterable[ArticleId | Rejection],
    policy: ArticlePolicy,
    wanted: Callable[[Figure], bool],
) -> Iterator[Batch]:
    """Yield a batch an article, in their order; a rejection among `articles` is passed on in its place.

    Args:
        wanted: whether a figure's picture is to be fetched; asked by several threads. A figure that is not wanted is
            yielded all the same, for screening to tell why. Never wanting any makes this a dry run.

    A stream that is closed before its end stops the cloud.

    Raises:
        FetchError: the server does not serve.
    """
    batches = map_in_order(_Reader(cloud, policy, wanted).read, articles, threads=cloud.concurrency)
    try:
        while batch := next(batches, None):  # `yield from` would wait for the threads before they are stopped
            yield batch
    except GeneratorExit:
        cloud.stop()
        raise


@dataclass(frozen=True)
class _Reader:
    cloud: PmcCloud
    policy: ArticlePolicy
    wanted: Callable[[Figure], bool]

    def read(self, article: ArticleId | Rejection) -> FigureList:
        if isinstance(article, Rejection):
            return FigureList((article,))
        try:
            version = self.cloud.newest(article)
            if version is None:
                return _set_aside(article, "no such article", None)
            metadata = self.cloud.metadata(version)
            if refused := self.policy.refuses(metadata):
                return _set_aside(version, *refused)
            assert metadata.xml is not None  # checked by the policy
            xml = self.cloud.fetch(metadata.xml, limit=MAX_XML_BYTES)
            return FigureList(tuple(self._figures(metadata, metadata.xml.key, xml)))
        except DataError as error:
            return _set_aside(article, "article cannot be fetched", error.what)
        except FetchError as error:
            self.cloud.stop(error)  # the other threads need not find out for themselves
            raise

    def _figures(self, article: ArticleMetadata, key: str, xml: Path) -> Iterator[Figure | Rejection]:
        """The figures of an article, their pictures fetched where they are wanted.

        Raises:
            DataError: the full text is another article's.
        """
        remotes = self._places(article.media)
        pictures = _by_name(remotes)
        for item in with_rejections(partial(read_article_file, xml, pictures, origin=Path(key))):
            if isinstance(item, Rejection):
                yield item
                continue
            if item.source.pmcid not in (None, article.id.article):
                raise DataError(f"the full text says that it is {item.source.pmcid}")
            yield self._with_picture(_of_article(item, article, remotes.get(item.picture)))

    def _places(self, media: Iterable[RemoteFile]) -> dict[Path, RemoteFile]:
        """The pictures among `media` by where the cache keeps them; those left out whose names no folder takes."""
        places: dict[Path, RemoteFile] = {}
        for file in media:
            if file.key.lower().endswith(PICTURE_ENDINGS):
                with suppress(DataError):
                    places[self.cloud.cache.path(file.key)] = file
        return places

    def _with_picture(self, figure: Figure) -> Figure | Rejection:
        if figure.remote is None or not self.wanted(figure):
            return figure
        try:
            self.cloud.fetch(figure.remote, limit=MAX_PICTURE_BYTES)
        except DataError as error:
            detail = f"{figure.picture.name}: {error.what}"
            where = figure.source.file or figure.remote.key
            return Rejection(id=figure.id, stage="read", reason="picture cannot be fetched", where=where, detail=detail)
        return figure


def _of_article(figure: Figure, article: ArticleMetadata, remote: RemoteFile | None) -> Figure:
    """A figure with what the metadata knows better, or the full text does not say."""
    source = replace(
        figure.source,
        kind="pmc",
        pmcid=article.id.article,
        version=article.id.version,
        license=figure.source.license or article.license,
        citation=figure.source.citation or article.citation,
    )
    return replace(figure, source=source, remote=remote)


def _by_name(places: Mapping[Path, RemoteFile]) -> dict[str, Path]:
    """Pictures by lower-case name and stem, as an article's graphics name them: the best of a stem, and a name itself
    where it is not one that PMC replaces by a .jpg."""
    named = [(PurePosixPath(file.key.lower()), path) for path, file in places.items()]
    named.sort(key=lambda item: (PICTURE_ENDINGS.index(item[0].suffix), item[0]))
    best: dict[str, Path] = {}
    for name, path in named:
        best.setdefault(name.stem, path)
    return {name.name: best[name.stem] if name.suffix in REPLACED else path for name, path in named} | best


def _set_aside(article: ArticleId, reason: str, detail: str | None) -> FigureList:
    name = str(article)
    return FigureList((Rejection(id=name, stage="metadata", reason=reason, where=f"pmc:{name}", detail=detail),))
