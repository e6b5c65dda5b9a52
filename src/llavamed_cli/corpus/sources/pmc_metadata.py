"""What PubMed Central's cloud says of an article version: its licence, what it is, and which files belong to it.

One kilobyte of JSON, read before anything else is fetched. It is not trusted: every file that it names must lie in the
bucket, in the article's own folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llavamed_cli.errors import DataError
from llavamed_cli.records import RemoteFile

BUCKET = "pmc-oa-opendata"

_ARTICLE_ID = re.compile(r"(?:PMC)?([1-9][0-9]{0,8})(?:\.([1-9][0-9]{0,2}))?", re.I)
_MD5 = re.compile(r"(?:^|&)md5=([0-9a-fA-F]{32})(?:&|$)")


@dataclass(frozen=True, order=True)
class ArticleId:
    """An article of PubMed Central. version: None for the newest."""

    number: int
    version: int | None = None

    def __str__(self) -> str:
        return self.article if self.version is None else f"{self.article}.{self.version}"

    @property
    def article(self) -> str:
        """Its name whatever the version, e.g. "PMC10009416"."""
        return f"PMC{self.number}"


@dataclass(frozen=True, kw_only=True)
class ArticleMetadata:
    """An article version. xml: its full text, None where there is none. media: pictures and supplements."""

    id: ArticleId
    license: str | None
    citation: str | None
    is_retracted: bool
    is_ocr: bool
    is_manuscript: bool
    xml: RemoteFile | None
    media: tuple[RemoteFile, ...]


def parse_article_id(text: str) -> ArticleId | None:
    """ "PMC10009416", "PMC10009416.1" or "10009416"; None for what is no id."""
    found = _ARTICLE_ID.fullmatch(text.strip())
    return ArticleId(int(found[1]), int(found[2]) if found[2] else None) if found else None


def parse_metadata(record: Any, article: ArticleId) -> ArticleMetadata:
    """Read the metadata JSON of `article`, a version of it.

    Media that lie elsewhere than in the article's folder are left out.

    Raises:
        DataError: not such a record, another article's, or its full text lies elsewhere.
    """
    if not isinstance(record, dict):
        raise DataError(f"the metadata is no JSON object but {type(record).__name__}")
    if (record.get("pmcid"), record.get("version")) != (article.article, article.version):
        raise DataError(f"the metadata is of another article: {record.get('pmcid')}.{record.get('version')}")
    media = record.get("media_urls") or []
    if not isinstance(media, list):
        raise DataError("`media_urls` in the metadata is no list")
    address = _text(record, "xml_url")
    xml = _file(address, article) if address else None
    if address and xml is None:
        raise DataError(f"the full text does not lie in the article's folder: {address[:200]!r}")
    return ArticleMetadata(
        id=article,
        license=_text(record, "license_code"),
        citation=_text(record, "citation"),
        is_retracted=_flag(record, "is_retracted"),
        is_ocr=_flag(record, "is_historical_ocr"),
        is_manuscript=_flag(record, "is_manuscript"),
        xml=xml,
        media=tuple(file for item in media if isinstance(item, str) and (file := _file(item, article))),
    )


def _file(address: str, article: ArticleId) -> RemoteFile | None:
    """The object that `s3://BUCKET/KEY?md5=HEX` names, if it is a file of the article's own folder."""
    folder = f"s3://{BUCKET}/{article}/"
    location, _, query = address.partition("?")
    name = location.removeprefix(folder)
    if not location.startswith(folder) or "/" in name or name in ("", ".", ".."):
        return None
    md5 = _MD5.search(query)
    return RemoteFile(key=f"{article}/{name}", md5=md5[1].lower() if md5 else None)


def _text(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise DataError(f"`{name}` in the metadata is no text but {type(value).__name__}")


def _flag(record: Mapping[str, Any], name: str) -> bool:
    value = record.get(name, False)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise DataError(f"`{name}` in the metadata is neither true nor false")
