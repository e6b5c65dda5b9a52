"""Articles in whatever wrapping, as batches: an XML file or a package each, from folders of any number of them."""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from llavamed_cli.corpus.batches import Batch, FigureList
from llavamed_cli.corpus.screening.stages import Rejection, unreadable
from llavamed_cli.corpus.sources.article_folders import XML_ENDINGS, OnFault, walk
from llavamed_cli.corpus.sources.jats import read_article_file
from llavamed_cli.corpus.sources.picture_files import PictureIndex, picture_index, write_picture_index
from llavamed_cli.corpus.sources.pmc_package import ENDINGS as PACKAGE_ENDINGS
from llavamed_cli.corpus.sources.pmc_package import is_package, read_package
from llavamed_cli.records import Fault, Figure

FEW_ARTICLES = 20
"""A folder with so many is listed again for every article; for one with more an index is kept on the disk."""


@dataclass(frozen=True)
class ArticleFile:
    """One XML file.

    beside: the index of its folder; the folder is listed when the article is read if None.
    elsewhere: the index of a folder where pictures are sought that do not lie beside it.
    """

    file: Path
    beside: PictureIndex | None = None
    elsewhere: PictureIndex | None = None

    def read(self) -> Iterator[Figure | Rejection]:
        """Yield the figures of the article, or of each article in the file."""
        with ExitStack() as stack:
            opened = [stack.enter_context(index.open()) for index in (self.beside, self.elsewhere) if index]
            listed = [] if self.beside else [picture_index(self.file.parent)]
            pictures = ChainMap(*cast("list[MutableMapping[str, Path]]", listed + opened))  # nothing is written
            yield from with_rejections(partial(read_article_file, self.file, pictures))


@dataclass(frozen=True)
class Package:
    """One of PMC's packages, unpacked in a folder of its own in `scratch` while it is read."""

    archive: Path
    scratch: Path

    def read(self) -> Iterator[Figure | Rejection]:
        """Yield the figures of its articles. Their pictures are there until the last one is done with."""
        yield from with_rejections(partial(read_package, self.archive, self.scratch))


def article_batches(source: Path, images: Path | None, scratch: Path) -> Iterator[Batch]:
    """Yield a batch an article or package: of one file, or of all in a folder and below, in one order.

    Args:
        images: where pictures are sought when they do not lie beside their article.
        scratch: where packages are unpacked and indexes of large folders kept; to be removed when all is read.

    Of a folder only the names of articles and packages are held in memory.
    """
    if source.is_file() and is_package(source):
        yield Package(source, scratch)
        return
    elsewhere = _index(images, scratch) if images else None
    unlisted: list[Fault] = []
    for folder, names in walk(source, (*XML_ENDINGS, *PACKAGE_ENDINGS), unlisted.append):
        articles = [name for name in names if name.lower().endswith(XML_ENDINGS)]
        many = source.is_file() or len(articles) > FEW_ARTICLES
        beside = _index(folder, scratch) if many else None
        yield from (ArticleFile(folder / name, beside, elsewhere) for name in articles)
        yield from (Package(folder / name, scratch) for name in names if name.lower().endswith(PACKAGE_ENDINGS))
    if unlisted:
        yield FigureList(tuple(map(unreadable, unlisted)))


def _index(folder: Path, scratch: Path) -> PictureIndex:
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return write_picture_index(folder, scratch / f"pictures-{name}.sqlite")


def with_rejections(read: Callable[[OnFault], Iterator[Figure]]) -> Iterator[Figure | Rejection]:
    """What a reader yields, and what it tells of as faulty, in one stream."""
    rejected: list[Rejection] = []
    for figure in read(lambda fault: rejected.append(unreadable(fault))):
        yield from rejected
        rejected.clear()
        yield figure
    yield from rejected
