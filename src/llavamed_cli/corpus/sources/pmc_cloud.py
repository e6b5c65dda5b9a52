"""The PMC Cloud Service, a world-readable bucket: listings, metadata, and objects that are fetched once and verified.

Objects are kept in a cache that builds may share; answers (listings, metadata, searches) are kept for one run, so that
it sees the same world however often it is repeated, and the next run a new one.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from llavamed_cli.corpus.sources.answers import Answers
from llavamed_cli.corpus.sources.object_cache import ObjectCache, Part
from llavamed_cli.corpus.sources.pmc_metadata import ArticleId, ArticleMetadata, parse_article_id, parse_metadata
from llavamed_cli.corpus.sources.polite_http import REPEAT, Patience, PoliteClient, TransientError, md5_of_etag
from llavamed_cli.errors import DataError, FetchError, UsageError, first_line
from llavamed_cli.progress import Progress
from llavamed_cli.records import RemoteFile

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Self

Parsed = TypeVar("Parsed")

MAX_ANSWER_BYTES = 8 * 2**20
"""Of a listing's page (1,000 keys) or a metadata file, which have a few hundred kilobytes at most."""
MAX_PAGES = 1_000
WRONG_MD5_TRIES = 3
"""Downloads whose bytes are not those of the MD5 before the object itself is held to be wrong."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-")


class PmcCloud:
    """The service at `url`, or a mirror of it. Threads may share it.

    Args:
        cache: the folder of fetched objects.
        concurrency: connections, and threads of those who read many articles.
        answers: the file of this run's answers; in the cache if None.
    """

    def __init__(
        self,
        url: str,
        cache: Path,
        *,
        concurrency: int,
        progress: Progress | None = None,
        answers: Path | None = None,
        patience: Patience | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        if concurrency < 1:
            raise UsageError(f"--concurrency is {concurrency}; at least one request must be in flight")
        self.concurrency = concurrency
        self.cache = ObjectCache(cache)
        self._client = PoliteClient(url, connections=concurrency, patience=patience, jitter=jitter, progress=progress)
        self.answers = Answers(answers or cache / "answers.sqlite")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.__exit__()
        self.answers.__exit__()

    def stop(self, reason: FetchError | None = None) -> None:
        """End what threads are fetching: each raises `reason`. What has come is kept; no more can be fetched."""
        self._client.stop(reason)

    def newest(self, article: ArticleId) -> ArticleId | None:
        """The version that an id means: the one it names, else the newest; None where there is none.

        Raises:
            FetchError: the server does not serve, or does not list.
        """
        if article.version is not None:
            return article
        versions = self.answers.recall(f"versions {article}", lambda: self._versions(article))
        return ArticleId(article.number, max(versions)) if versions else None

    def metadata(self, article: ArticleId) -> ArticleMetadata:
        """What the service says of an article version.

        Raises:
            DataError: it has none, or no such record. FetchError: the server does not serve.
        """
        record = self.answers.recall(f"metadata {article}", lambda: self.read_json(f"metadata/{article}.json"))
        return parse_metadata(record, article)

    def read_json(self, key: str) -> Any:
        """A small object of JSON, as it is now.

        Raises:
            DataError: it is not there, or no JSON. FetchError: the server does not serve.
        """
        return self._read(key, None, parse_json)

    def folders(self, prefix: str) -> list[str]:
        """What lies directly below `prefix` and has something below it, as a listing has it now, e.g. "PMC7.1/".

        Raises:
            FetchError: the server does not serve, or does not list.
        """
        found: list[str] = []
        token: str | None = None
        for _ in range(MAX_PAGES):
            query = {"list-type": "2", "delimiter": "/", "prefix": prefix}
            names, token = self._read("", query | ({"continuation-token": token} if token else {}), _parse_listing)
            found += names
            if token is None:
                return found
        raise FetchError(f"the listing of {prefix} has no end", where=self._client.url)

    def fetch(self, file: RemoteFile, *, limit: int) -> Path:
        """Where an object lies once it is verified; fetched if the cache has no such one.

        Args:
            limit: bytes that it may have at most.

        Raises:
            DataError: it is absent, too large, breaks off for good, or is never what its MD5 says.
            FetchError: the server does not serve.
        """
        path = self.cache.path(file.key)
        if self.cache.holds(file.key, file.md5):
            return path
        with self.cache.part(file.key) as part:
            if not self.cache.holds(file.key, file.md5):  # another run may have fetched it in the meantime
                download = _Download(self._client, part, file, limit)
                if not download.is_whole():
                    self._client.ask(download.receive, quote(file.key), headers=part.headers)
                part.place(path)
        return path

    def _versions(self, article: ArticleId) -> list[int]:
        listed = (parse_article_id(folder.removesuffix("/")) for folder in self.folders(f"{article.article}."))
        return [found.version for found in listed if found and found.version and found.number == article.number]

    def _read(self, key: str, query: dict[str, str] | None, parse: Callable[[bytes], Parsed]) -> Parsed:
        def receive(response: httpx.Response) -> Parsed:
            return read_answer(self._client, response, parse, MAX_ANSWER_BYTES)

        return self._client.ask(receive, quote(key), query=query, must_be_there=query is not None)


@dataclass
class _Download:
    """An object on its way into its part."""

    client: PoliteClient
    part: Part
    file: RemoteFile
    limit: int
    wrong: int = field(default=0, init=False)

    def is_whole(self) -> bool:
        """Whether the part lacks nothing: a run may be killed just before it puts it in its place."""
        return self.part.size > 0 and self.part.md5() == self.file.md5

    def receive(self, response: httpx.Response) -> None:
        import httpx

        if response.status_code == 200:
            self.part.restart(response.headers.get("ETag"))
        elif not _goes_on_at(response, self.part.size):
            self.part.restart(None)
            raise TransientError(DataError("the server does not send the rest of an object that was begun"))
        before = self.part.size
        self._check_size(before + int(response.headers.get("Content-Length") or 0))
        try:
            for block in self.client.blocks(response):
                self.part.write(block)
                self._check_size(self.part.size)
        except httpx.TransportError as error:
            what = f"it breaks off after {self.part.size:,} bytes: {first_line(error)}"
            raise TransientError(DataError(what), advanced=self.part.size > before) from error
        self._verify(self.file.md5 or md5_of_etag(response))

    def _check_size(self, size: int) -> None:
        if size > self.limit:
            raise DataError(f"{size:,} bytes or more; at most {self.limit:,} are fetched")

    def _verify(self, expected: str | None) -> None:
        found = self.part.md5()
        if expected is None or found == expected:
            return
        self.part.restart(None)
        self.wrong += 1
        error = DataError(f"its MD5 is {found}, expected {expected}; fetched {self.wrong} times")
        raise error if self.wrong == WRONG_MD5_TRIES else TransientError(error)


def read_answer(client: PoliteClient, response: httpx.Response, parse: Callable[[bytes], Parsed], limit: int) -> Parsed:
    """A small answer, read and parsed. One that `parse` refuses is worth another try, and a web page in its place (of a
    proxy, or a portal that wants a password) is no fault of the object's."""
    body = client.read(response, limit)
    try:
        return parse(body)
    except DataError as error:
        if body.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
            what = "a web page came where data was asked for; something stands between, or the address is wrong"
            raise TransientError(FetchError(what, where=client.url, hint=REPEAT)) from error
        raise TransientError(error) from error


def parse_json(body: bytes) -> Any:
    """JSON as NCBI writes it, now and then with bare line ends in a text. Raises DataError."""
    try:
        return json.loads(body.decode("utf-8-sig"), strict=False)
    except (ValueError, RecursionError) as error:
        raise DataError(f"no JSON came: {first_line(error)}") from error


def _goes_on_at(response: httpx.Response, size: int) -> bool:
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    return response.status_code == 206 and found is not None and int(found[1]) == size


def _parse_listing(body: bytes) -> tuple[list[str], str | None]:
    """The prefixes of a page of ListObjectsV2, and what asks for the next page. Raises DataError."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise DataError(f"no listing came: {error.msg}") from error
    if etree.QName(root).localname != "ListBucketResult":
        raise DataError(f"no listing came but <{etree.QName(root).localname}>")
    prefixes = root.iterfind("{*}CommonPrefixes/{*}Prefix")
    more = root.findtext("{*}IsTruncated") == "true"
    return [item.text for item in prefixes if item.text], root.findtext("{*}NextContinuationToken") if more else None
