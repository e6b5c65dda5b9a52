from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.corpus.sources import pmc_search
from llavamed_cli.corpus.sources.answers import Answers
from llavamed_cli.corpus.sources.pmc_search import EUTILS_URL, SearchService, search_articles, search_service
from llavamed_cli.corpus.sources.polite_http import Patience
from llavamed_cli.errors import DataError, FetchError
from llavamed_cli.progress import Silent

KEY = "s3cr3t-0123456789"
SEARCH = "esearch.fcgi"


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    with Answers(tmp_path / "answers.sqlite") as opened:
        yield opened


@pytest.fixture
def service(pmc: Any, patience: Patience) -> SearchService:
    return SearchService(url=pmc.url, key=KEY, patience=patience)


def test_all_pages_are_read_in_order_and_an_id_counts_once(pmc: Any, answers: Answers, service: SearchService) -> None:
    pmc.found, pmc.page = [50, 40, 30, 40, 20, 10, 60], 3
    assert search_articles("lung OR heart", answers, service, Silent()) == [50, 40, 30, 20, 10, 60]
    forms = [request.form for request in pmc.log]
    assert [form["retstart"] for form in forms] == ["0", "3", "6"]
    assert {form["term"] for form in forms} == {"(lung OR heart) AND open_access[Filter]"}
    assert {(form["db"], form["retmode"], form["api_key"]) for form in forms} == {("pmc", "json", KEY)}


def test_a_repeated_run_sees_what_the_first_one_found(pmc: Any, answers: Answers, service: SearchService) -> None:
    pmc.found = [1, 2]
    assert search_articles("lung", answers, service, Silent()) == [1, 2]
    pmc.found = [3]
    assert search_articles("lung", answers, service, Silent()) == [1, 2]
    assert pmc.asked() == {SEARCH: 1}


def test_the_key_is_in_no_address_no_log_no_message_and_no_file(
    pmc: Any, fault: Any, answers: Answers, service: SearchService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pmc.found = [1]
    search_articles("lung", answers, service, Silent())
    pmc.fail(SEARCH, fault(status=400, body=f'{{"error": "API key invalid", "api-key": "{KEY}"}}'.encode()))
    with pytest.raises(FetchError, match="400") as raised:
        search_articles("heart", answers, service, Silent())
    assert KEY not in str(raised.value) + caplog.text + repr(service)
    assert "esearch.fcgi" in caplog.text  # the log does hold the address
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize(("key", "interval"), [(None, 1 / 3), (KEY, 1 / 10)])
def test_ncbis_rate_is_kept(key: str | None, interval: float, pmc: Any, answers: Answers, patience: Patience) -> None:
    pmc.found, pmc.page = [1, 2, 3, 4], 1
    service = SearchService(url=pmc.url, key=key, patience=patience)
    search_articles("lung", answers, service, Silent())
    times = [request.at for request in pmc.log]
    assert len(times) == 4 and times[-1] - times[0] > 0.97 * 3 * interval
    assert all(later - earlier > 0.7 * interval for earlier, later in pairwise(times))  # a busy machine takes one late
    assert ("api_key" in pmc.log[0].form) == (key is not None)


def test_a_busy_or_broken_answer_is_asked_for_again(
    pmc: Any, fault: Any, answers: Answers, service: SearchService
) -> None:
    pmc.found = [1]
    pmc.fail(SEARCH, fault(status=429), fault(cut=10), fault(body=b"<html>busy</html>"))
    assert search_articles("lung", answers, service, Silent()) == [1]
    pmc.fail(SEARCH, fault(body=b'{"error": "API rate limit exceeded"}'))
    assert search_articles("heart", answers, service, Silent()) == [1]


@pytest.mark.parametrize(
    ("body", "error", "told"),
    [
        (b"<html>no</html>", FetchError, "web page"),
        (b'{"esearchresult": {"ERROR": "Invalid db name"}}', DataError, "Invalid db name"),
        (b'{"esearchresult": {"count": "1"}}', DataError, "lacks its count or its ids"),
        (b'{"esearchresult": {"count": "9", "idlist": []}}', FetchError, "0 of 9 ids"),
        (b'{"esearchresult": {"count": "0", "idlist": []}}', DataError, "finds no open-access article"),
        (b"[]", DataError, "no result of a search"),
    ],
)
def test_what_is_wrong_is_told(
    body: bytes, error: type[Exception], told: str, pmc: Any, fault: Any, answers: Answers, service: SearchService
) -> None:
    pmc.fail(SEARCH, fault(body=body), forever=True)
    with pytest.raises(error, match=told):
        search_articles("lung", answers, service, Silent())


def test_bare_line_ends_in_ncbis_json_are_read(pmc: Any, fault: Any, answers: Answers, service: SearchService) -> None:
    pmc.fail(SEARCH, fault(body=b'{"esearchresult": {"count": "1", "idlist": ["5"], "querytranslation": "a\nb"}}'))
    assert search_articles("lung", answers, service, Silent()) == [5]


def test_the_service_is_ncbis_unless_the_environment_says_otherwise() -> None:
    assert search_service({}) == SearchService(url=EUTILS_URL, key=None)
    environment = {"NCBI_API_KEY": KEY, "LLAVAMED_EUTILS_URL": "http://mirror/"}
    assert search_service(environment) == SearchService(url="http://mirror/", key=KEY)
    assert pmc_search.INTERVAL >= 1 / 3 and pmc_search.INTERVAL_WITH_KEY >= 1 / 10
