"""Which articles `pmc:` names: one id, a file of ids, a search, or the whole inventory of a day.

What is asked of a server is asked once a run, and ids come as a stream: an inventory has eight million.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.pmc_inventory import read_inventory
from llavamed_cli.corpus.sources.pmc_metadata import ArticleId, parse_article_id
from llavamed_cli.corpus.sources.pmc_search import SearchService, search_articles
from llavamed_cli.errors import UsageError
from llavamed_cli.progress import Progress

PREFIX = "pmc:"
HINT = "Give pmc:PMC10009416, pmc:FILE of ids, pmc:query:TEXT, pmc:inventory or pmc:inventory:YYYY-MM-DD."
LONGEST_LINE = 1_000

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class PmcArticles:
    """What a source that begins with `pmc:` names.

    kind: "id" has `article`; "file" has `path`; "query" has its text as `query`; "inventory" may have a `day`.
    """

    text: str
    kind: Literal["id", "file", "query", "inventory"]
    article: ArticleId | None = None
    path: Path | None = None
    query: str | None = None
    day: str | None = None


def locate_pmc(text: str) -> PmcArticles:
    """Tell what `text`, such as "pmc:PMC10009416", names. Nothing is asked of a server.

    Raises:
        UsageError: nothing that is known, or no such file.
    """
    rest = text.removeprefix(PREFIX).strip()
    if article := parse_article_id(rest):
        return PmcArticles(text=text, kind="id", article=article)
    kind, _, more = rest.partition(":")
    if kind == "query" and more.strip():
        return PmcArticles(text=text, kind="query", query=" ".join(more.split()))
    if kind == "inventory" and (not more or _is_day(more)):
        return PmcArticles(text=text, kind="inventory", day=more or None)
    if rest and Path(rest).is_file():
        return PmcArticles(text=text, kind="file", path=Path(rest))
    raise UsageError("neither an article of PubMed Central nor a file of their ids", where=text, hint=HINT)


def read_article_ids(
    source: PmcArticles, cloud: PmcCloud, search: SearchService, progress: Progress
) -> Iterator[ArticleId | Rejection]:
    """Yield the articles that `source` names, each once, and in the place of a line that is no id, why.

    Raises:
        DataError: a search that finds nothing, or no such inventory. FetchError: a server that does not serve.
    """
    if source.article is not None:
        yield source.article
    elif source.path is not None:
        yield from read_id_file(source.path)
    elif source.query is not None:
        numbers = search_articles(source.query, cloud.answers, search, progress)
        yield from map(ArticleId, numbers)
    else:
        yield from read_inventory(cloud, source.day, progress)


def read_id_file(file: Path) -> Iterator[ArticleId | Rejection]:
    """Yield the ids of a file, one a line, with PMC before the number or without; blank lines and # comments are
    passed over."""
    seen = _Seen()
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE):
            number += 1
            whole = line
            while len(whole) == LONGEST_LINE and not whole.endswith("\n"):  # the rest of a line that is no id anyway
                whole = stream.readline(LONGEST_LINE)
            text = line.partition("#")[0].strip()
            article = parse_article_id(text)
            if article and seen.add(article):
                yield article
            elif text and not article:
                where = f"{file}:{number}"
                yield Rejection(id=None, stage="read", reason="not a PMC id", where=where, detail=text[:80])


@dataclass
class _Seen:
    """Articles that have come, as bits: ten million take little more than a megabyte."""

    bits: dict[int | None, bytearray] = field(default_factory=dict)

    def add(self, article: ArticleId) -> bool:
        """Whether it comes for the first time."""
        bits = self.bits.setdefault(article.version, bytearray())
        place, mask = article.number // 8, 1 << article.number % 8
        if place >= len(bits):
            bits.extend(bytes(place + 1 - len(bits)))
        new = not bits[place] & mask
        bits[place] |= mask
        return new


def _is_day(text: str) -> bool:
    if not _DAY.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
