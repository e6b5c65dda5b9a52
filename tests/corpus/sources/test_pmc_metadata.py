from __future__ import annotations

from typing import Any

import pytest

from llavamed_cli.corpus.sources.pmc_metadata import ArticleId, parse_article_id, parse_metadata
from llavamed_cli.errors import DataError
from llavamed_cli.records import RemoteFile

MD5 = "0123456789abcdef0123456789ABCDEF"
FOLDER = "s3://pmc-oa-opendata/PMC7.2/"
ARTICLE = ArticleId(7, 2)


def record(**changes: Any) -> dict[str, Any]:
    return {
        "pmcid": "PMC7",
        "version": 2,
        "license_code": "CC BY",
        "citation": "A journal",
        "is_retracted": False,
        "xml_url": f"{FOLDER}PMC7.2.xml?md5={MD5}",
        "media_urls": [f"{FOLDER}g 1.jpg?md5={MD5}", f"{FOLDER}data.csv"],
    } | changes


@pytest.mark.parametrize(
    ("text", "article"),
    [
        ("PMC10009416", ArticleId(10009416)),
        ("pmc7.12", ArticleId(7, 12)),
        (" 7 ", ArticleId(7)),
        ("PMC", None),
        ("PMC07", None),
        ("PMC7.0", None),
        ("PMC7.", None),
        ("PMC٧", None),
        ("PMC1234567890", None),
        ("10.1371/x", None),
        ("", None),
    ],
)
def test_ids(text: str, article: ArticleId | None) -> None:
    assert parse_article_id(text) == article
    if article:
        assert parse_article_id(str(article)) == article


def test_metadata() -> None:
    read = parse_metadata(record(), ARTICLE)
    assert read.xml == RemoteFile(key="PMC7.2/PMC7.2.xml", md5=MD5.lower())
    assert read.media == (RemoteFile(key="PMC7.2/g 1.jpg", md5=MD5.lower()), RemoteFile(key="PMC7.2/data.csv"))
    assert (read.license, read.citation) == ("CC BY", "A journal")
    assert not (read.is_retracted or read.is_ocr or read.is_manuscript)
    bare = parse_metadata({"pmcid": "PMC7", "version": 2, "license_code": None, "media_urls": None}, ARTICLE)
    assert (bare.xml, bare.media, bare.license) == (None, (), None)
    flags = parse_metadata(record(is_retracted=True, is_historical_ocr=True, is_manuscript=True), ARTICLE)
    assert flags.is_retracted and flags.is_ocr and flags.is_manuscript


ELSEWHERE = [
    "s3://another-bucket/PMC7.2/a.jpg",
    "s3://pmc-oa-opendata/PMC8.1/a.jpg",
    "s3://pmc-oa-opendata/PMC7.2/../PMC8.1/a.jpg",
    "s3://pmc-oa-opendata/PMC7.2/..",
    "s3://pmc-oa-opendata/PMC7.2/",
    "https://example.invalid/PMC7.2/a.jpg",
    "file:///etc/passwd",
    "/etc/passwd",
    "",
]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_files_that_lie_elsewhere_are_left_out(address: str) -> None:
    assert parse_metadata(record(media_urls=[address, 7, None]), ARTICLE).media == ()
    if address:
        with pytest.raises(DataError, match="does not lie in the article's folder"):
            parse_metadata(record(xml_url=address), ARTICLE)


@pytest.mark.parametrize(
    "changes",
    [
        {"pmcid": "PMC8"},
        {"version": 1},
        {"version": "2"},
        {"license_code": 4},
        {"media_urls": "s3://"},
        {"xml_url": ["x"]},
        {"is_retracted": "no"},
    ],
)
def test_what_is_no_metadata_of_the_article_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        parse_metadata(record(**changes), ARTICLE)
    with pytest.raises(DataError, match="no JSON object but list"):
        parse_metadata([record()], ARTICLE)
