from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources.pmc_articles import PmcArticles, locate_pmc, read_article_ids, read_id_file
from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.pmc_metadata import ArticleId
from llavamed_cli.corpus.sources.pmc_search import SearchService
from llavamed_cli.errors import UsageError
from llavamed_cli.progress import Silent


def test_what_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text("PMC1\n")
    assert locate_pmc("pmc:PMC7").article == ArticleId(7)
    assert locate_pmc("pmc:pmc7.2").article == ArticleId(7, 2)
    assert locate_pmc(f"pmc:{file}") == PmcArticles(text=f"pmc:{file}", kind="file", path=file)
    assert locate_pmc("pmc:query: chest  x-ray AND 2020[dp]:2021[dp] ").query == "chest x-ray AND 2020[dp]:2021[dp]"
    assert (locate_pmc("pmc:inventory").kind, locate_pmc("pmc:inventory").day) == ("inventory", None)
    assert locate_pmc("pmc:inventory:2026-11-20").day == "2026-11-20"


@pytest.mark.parametrize(
    "text",
    [
        "pmc:",
        "pmc:PMC",
        "pmc:nowhere.txt",
        "pmc:query:",
        "pmc:query: ",
        "pmc:inventory:today",
        "pmc:inventory:2026-13-01",
    ],
)
def test_what_is_not_is_told_with_what_would_be(text: str) -> None:
    with pytest.raises(UsageError, match="pmc:inventory:YYYY-MM-DD") as raised:
        locate_pmc(text)
    assert raised.value.where == text


def test_a_file_of_ids(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    lines = ["\ufeffPMC7", "", "# a comment", "8  # why", "pmc7", "10.1371/x", "PMC7.2", "PMC7.2", "9" * 3_000, "PMC9"]
    file.write_text("\n".join(lines), encoding="utf-8")
    read = list(read_id_file(file))
    assert [item for item in read if isinstance(item, ArticleId)] == [
        ArticleId(7),
        ArticleId(8),
        ArticleId(7, 2),
        ArticleId(9),
    ]
    bad = [item for item in read if isinstance(item, Rejection)]
    assert [(item.where, item.detail) for item in bad] == [(f"{file}:6", "10.1371/x"), (f"{file}:9", "9" * 80)]
    assert {(item.stage, item.reason) for item in bad} == {("read", "not a PMC id")}
    file.write_bytes(b"\xff\xfe\x00binary\nPMC1\n")
    assert [isinstance(item, ArticleId) for item in read_id_file(file)] == [False, True]


def test_an_id_and_a_file_ask_no_server(pmc: Any, open_cloud: Callable[..., PmcCloud], tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("PMC7\n")
    for text in ("pmc:PMC7", f"pmc:{tmp_path / 'ids'}"):
        assert list(read_article_ids(locate_pmc(text), open_cloud(), SearchService(), Silent())) == [ArticleId(7)]
    assert pmc.log == []


def test_a_search_and_an_inventory_ask(pmc: Any, open_cloud: Callable[..., PmcCloud]) -> None:
    pmc.found = [9, 7]
    pmc.add_inventory("2026-11-20T01-00Z", ["metadata/PMC8.1.json"])
    service = SearchService(url=pmc.url)
    found = list(read_article_ids(locate_pmc("pmc:query:lung"), open_cloud(), service, Silent()))
    assert found == [ArticleId(9), ArticleId(7)]
    assert list(read_article_ids(locate_pmc("pmc:inventory"), open_cloud(), service, Silent())) == [ArticleId(8, 1)]
