"""A search of PubMed Central through NCBI's ESearch: every id that it finds, asked for in pages, within NCBI's rate.

The key travels in a form, never in an address, so no log and no message can hold it; neither does the kept answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.corpus.sources.answers import Answers
from llavamed_cli.corpus.sources.pmc_cloud import parse_json, read_answer
from llavamed_cli.corpus.sources.polite_http import Patience, PoliteClient
from llavamed_cli.errors import DataError, FetchError
from llavamed_cli.progress import Progress

if TYPE_CHECKING:
    import httpx

EUTILS_URL = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/"
URL_VARIABLE, KEY_VARIABLE = "LLAVAMED_EUTILS_URL", "NCBI_API_KEY"
OPEN_ACCESS = "open_access[Filter]"
INTERVAL, INTERVAL_WITH_KEY = 0.35, 0.105
"""Seconds from request to request. NCBI allows 3 a second, 10 with a key (E-utilities, NBK25497)."""
PAGE = 5_000
"""Ids a request; NCBI gives 10,000 at most (E-utilities, NBK25499, retmax)."""
MAX_PAGE_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True)
class SearchService:
    """Where searches are asked, and the key they are asked with."""

    url: str = EUTILS_URL
    key: str | None = field(default=None, repr=False)
    patience: Patience | None = None


def search_service(environment: Mapping[str, str]) -> SearchService:
    """NCBI's service, or the one that LLAVAMED_EUTILS_URL names, with the key in NCBI_API_KEY if there is one."""
    return SearchService(url=environment.get(URL_VARIABLE) or EUTILS_URL, key=environment.get(KEY_VARIABLE) or None)


def search_articles(query: str, answers: Answers, service: SearchService, progress: Progress) -> list[int]:
    """The numbers of the open-access articles that `query` finds, in NCBI's order; found once a run.

    Raises:
        DataError: the query finds nothing, or NCBI does not understand it. FetchError: NCBI does not serve.
    """

    def ask() -> list[int]:
        interval = INTERVAL_WITH_KEY if service.key else INTERVAL
        with PoliteClient(
            service.url, connections=1, interval=interval, patience=service.patience, progress=progress
        ) as client:
            return _Search(client, f"({query}) AND {OPEN_ACCESS}", service.key).all_pages()

    found: list[int] = answers.recall(f"search {query}", ask)
    if not found:
        raise DataError("the search finds no open-access article", where=f"pmc:query:{query}", hint="Try it at PMC.")
    progress.note(f"the search finds {len(found):,} open-access articles")
    return found


@dataclass(frozen=True)
class _Search:
    client: PoliteClient
    term: str
    key: str | None = field(repr=False)

    def all_pages(self) -> list[int]:
        """Page by page until the count is reached. The index may change between pages: an id counts once."""
        found: dict[int, None] = {}
        start, total = 0, 1
        while start < total:
            total, numbers = self._page(start)
            if not numbers:
                break
            found.update(dict.fromkeys(numbers))
            start += len(numbers)
        if start < total:
            raise FetchError(f"NCBI gave {start:,} of {total:,} ids and no more", where=self.client.url)
        return list(found)

    def _page(self, start: int) -> tuple[int, list[int]]:
        form = {
            "db": "pmc",
            "term": self.term,
            "retmode": "json",
            "retstart": str(start),
            "retmax": str(PAGE),
            "tool": "llavamed",
        }
        if self.key:
            form["api_key"] = self.key
        return self.client.ask(self._receive, "esearch.fcgi", form=form, must_be_there=True)

    def _receive(self, response: httpx.Response) -> tuple[int, list[int]]:
        return read_answer(self.client, response, _parse_page, MAX_PAGE_BYTES)


def _parse_page(body: bytes) -> tuple[int, list[int]]:
    """How many there are in all, and the ids of this page. Raises DataError."""
    record: Any = parse_json(body)
    result = record.get("esearchresult") if isinstance(record, dict) else None
    if not isinstance(result, dict):
        raise DataError("no result of a search came")
    if result.get("ERROR"):
        raise DataError(f"NCBI does not take the search: {str(result['ERROR'])[:200]}")
    try:
        return int(result["count"]), [int(number) for number in result["idlist"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("the result of the search lacks its count or its ids") from error
