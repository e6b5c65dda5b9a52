from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.corpus.sources import pmc_cloud
from llavamed_cli.corpus.sources.pmc_cloud import WRONG_MD5_TRIES, PmcCloud
from llavamed_cli.corpus.sources.pmc_metadata import ArticleId
from llavamed_cli.errors import DataError, FetchError, LlavamedError, UsageError
from llavamed_cli.records import RemoteFile

OpenCloud = Callable[..., PmcCloud]
KEY = "PMC7.1/scan g001.jpg"
BODY = os.urandom(20_000)
LIMIT = 10**6


def stored(pmc: Any, body: bytes = BODY, key: str = KEY) -> RemoteFile:
    address = pmc.put(key, body)
    return RemoteFile(key=key, md5=address.partition("?md5=")[2])


def parts(cloud: PmcCloud) -> list[Path]:
    return list((cloud.cache.folder / "parts").glob("*"))


def test_an_object_is_fetched_once_and_lies_in_the_cache(pmc: Any, open_cloud: OpenCloud) -> None:
    file = stored(pmc)
    cloud = open_cloud()
    path = cloud.fetch(file, limit=LIMIT)
    assert path.read_bytes() == BODY and path.is_relative_to(cloud.cache.folder)
    assert cloud.fetch(file, limit=LIMIT) == path and open_cloud().fetch(file, limit=LIMIT) == path
    assert pmc.asked() == {KEY: 1} and parts(cloud) == []
    assert pmc.log[0].headers["User-Agent"].startswith("llavamed/")


def test_a_kept_object_that_was_damaged_or_has_changed_is_fetched_anew(pmc: Any, open_cloud: OpenCloud) -> None:
    file, cloud = stored(pmc), open_cloud()
    path = cloud.fetch(file, limit=LIMIT)
    path.write_bytes(b"rot" + BODY[3:])
    assert cloud.fetch(file, limit=LIMIT).read_bytes() == BODY
    changed = stored(pmc, BODY[::-1])
    assert cloud.fetch(changed, limit=LIMIT).read_bytes() == BODY[::-1]
    assert pmc.asked() == {KEY: 3}


def test_a_broken_body_goes_on_where_it_broke_off(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    file = stored(pmc)
    pmc.fail(KEY, *(fault(cut=4_000) for _ in range(4)))
    assert open_cloud().fetch(file, limit=LIMIT).read_bytes() == BODY
    ranges = [request.headers.get("Range") for request in pmc.log]
    assert ranges == [None, "bytes=4000-", "bytes=8000-", "bytes=12000-", "bytes=16000-"]
    assert {request.headers.get("If-Range") for request in pmc.log[1:]} == {f'"{file.md5}"'}
    assert [request.status for request in pmc.log] == [200, 206, 206, 206, 206]


def test_a_server_without_ranges_sends_it_all_again(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    file = stored(pmc)
    pmc.resumes = False
    pmc.fail(KEY, fault(cut=4_000), fault(cut=9_000))
    assert open_cloud().fetch(file, limit=LIMIT).read_bytes() == BODY
    assert [request.status for request in pmc.log] == [200, 200, 200]


def test_a_begun_object_is_gone_on_with_by_the_next_run(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    file = stored(pmc)
    pmc.fail(KEY, fault(cut=5_000), *[fault(status=503)] * 3)
    with pytest.raises(FetchError, match="503"):
        open_cloud().fetch(file, limit=LIMIT)
    asked = len(pmc.log)
    cloud = open_cloud()
    assert cloud.fetch(file, limit=LIMIT).read_bytes() == BODY
    assert [request.headers["Range"] for request in pmc.log[asked:]] == ["bytes=5000-"]
    assert parts(cloud) == []


def test_an_object_that_changed_since_it_was_begun_is_begun_anew(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    pmc.fail(KEY, fault(cut=5_000), *[fault(status=503)] * 3)
    with pytest.raises(FetchError):
        open_cloud().fetch(stored(pmc), limit=LIMIT)
    other = stored(pmc, BODY[::-1])
    assert open_cloud().fetch(other, limit=LIMIT).read_bytes() == BODY[::-1]
    assert pmc.log[-1].headers["Range"] == "bytes=5000-" and pmc.log[-1].status == 200


def test_what_was_whole_when_the_run_was_killed_is_not_fetched_again(pmc: Any, open_cloud: OpenCloud) -> None:
    file, cloud = stored(pmc), open_cloud()
    with cloud.cache.part(file.key) as part:
        part.restart(f'"{file.md5}"')
        part.write(BODY)
    assert cloud.fetch(file, limit=LIMIT).read_bytes() == BODY
    assert pmc.log == [] and parts(cloud) == []


def test_a_wrong_md5_is_fetched_a_few_times_and_never_kept(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    file, cloud = stored(pmc), open_cloud()
    pmc.fail(KEY, fault(wrong=True))
    assert cloud.fetch(file, limit=LIMIT).read_bytes() == BODY
    assert pmc.asked() == {KEY: 2}
    other = stored(pmc, BODY * 2, "PMC7.1/b.jpg")
    pmc.fail(other.key, fault(wrong=True), forever=True)
    with pytest.raises(DataError, match=f"expected {other.md5}; fetched {WRONG_MD5_TRIES} times"):
        cloud.fetch(other, limit=LIMIT)
    assert pmc.asked()[other.key] == WRONG_MD5_TRIES
    assert not cloud.cache.path(other.key).exists() and parts(cloud) == []


def test_an_object_without_md5_is_checked_by_its_etag(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    stored(pmc)
    pmc.fail(KEY, fault(wrong=True))
    path = open_cloud().fetch(RemoteFile(key=KEY), limit=LIMIT)
    assert path.read_bytes() == BODY and pmc.asked() == {KEY: 2}


@pytest.mark.parametrize(
    ("broken", "error", "told"),
    [
        ({"status": 404}, DataError, "no such object"),
        ({"status": 410}, DataError, "no such object"),
        ({"status": 403}, DataError, "no such object"),
        ({"cut": 0}, DataError, "breaks off after 0 bytes"),
        ({"status": 500}, FetchError, "500"),
        ({"status": 503}, FetchError, "503"),
        ({"status": 429}, FetchError, "429"),
        ({"status": 401}, FetchError, "401"),
        ({"status": 302, "headers": {"Location": "http://example.invalid/x"}}, FetchError, "leads to example.invalid"),
        ({"status": 503, "headers": {"Retry-After": "86400"}}, FetchError, "asks to wait 86400 s"),
    ],
)
def test_what_lasts_is_told_as_the_objects_fault_or_the_servers(
    broken: dict[str, Any], error: type[LlavamedError], told: str, pmc: Any, fault: Any, open_cloud: OpenCloud
) -> None:
    file, cloud = stored(pmc), open_cloud()
    pmc.fail(KEY, fault(**broken), forever=True)
    with pytest.raises(error, match=told) as raised:
        cloud.fetch(file, limit=LIMIT)
    assert type(raised.value) is error
    assert parts(cloud) == []
    lasting = broken.get("status") in (404, 410, 403, 401, 302) or "Retry-After" in broken.get("headers", {})
    assert pmc.asked() == {KEY: 1 if lasting else 4}


def test_what_passes_is_waited_for(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    file = stored(pmc)
    pmc.fail(KEY, fault(status=500), fault(status=503, headers={"Retry-After": "0"}), fault(status=429))
    assert open_cloud().fetch(file, limit=LIMIT).read_bytes() == BODY


def test_retry_after_holds_for_every_thread(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    file, other, cloud = stored(pmc), stored(pmc, b"other", "PMC7.1/other.jpg"), open_cloud()
    pmc.fail(KEY, fault(status=503, headers={"Retry-After": "1"}))
    first = threading.Thread(target=cloud.fetch, args=(file,), kwargs={"limit": LIMIT})
    first.start()
    while not pmc.log:
        pass
    threading.Event().wait(0.1)
    cloud.fetch(other, limit=LIMIT)
    first.join()
    busy, *later = pmc.log
    assert len(later) == 2 and all(request.at - busy.at >= 0.95 for request in later)


def test_a_slow_body_is_received(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    file = stored(pmc)
    pmc.fail(KEY, fault(pause=0.01))
    assert open_cloud().fetch(file, limit=LIMIT).read_bytes() == BODY
    assert pmc.asked() == {KEY: 1}


def test_silence_is_given_up(pmc: Any, fault: Any, open_cloud: OpenCloud, patience: Any) -> None:
    from dataclasses import replace

    file = stored(pmc)
    pmc.fail(KEY, fault(pause=0.5))
    assert open_cloud(patience=replace(patience, timeout=0.1)).fetch(file, limit=LIMIT).read_bytes() == BODY
    assert pmc.log[1].headers["Range"] == "bytes=1024-"


def test_too_large_an_object_is_not_fetched(pmc: Any, open_cloud: OpenCloud) -> None:
    file, cloud = stored(pmc), open_cloud()
    with pytest.raises(DataError, match="at most 19,999"):
        cloud.fetch(file, limit=19_999)
    assert parts(cloud) == [] and not cloud.cache.path(KEY).exists()


def test_stopping_ends_a_wait_at_once(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    file, cloud = stored(pmc), open_cloud()
    pmc.fail(KEY, fault(status=503, headers={"Retry-After": "60"}), forever=True)
    threading.Timer(0.2, cloud.stop).start()
    with pytest.raises(FetchError, match="stopped"):
        cloud.fetch(file, limit=LIMIT)


def test_threads_and_runs_that_share_a_cache_fetch_an_object_once(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    file = stored(pmc)
    pmc.fail(KEY, fault(pause=0.005), forever=True)
    clouds = [open_cloud(), open_cloud()]
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda cloud=cloud: paths.append(cloud.fetch(file, limit=LIMIT)))
        for cloud in clouds * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 6 and {path.read_bytes() for path in paths} == {BODY}
    assert pmc.asked() == {KEY: 1} and parts(clouds[0]) == []


def test_the_newest_version_is_taken_unless_one_is_named(pmc: Any, open_cloud: OpenCloud) -> None:
    for name in ("PMC7.1", "PMC7.10", "PMC7.9", "PMC70.11", "PMC7.x", f"PMC7.{'9' * 5_000}"):
        pmc.put(f"{name}/{name}.xml", b"<article/>")
    cloud = open_cloud()
    assert cloud.newest(ArticleId(7)) == ArticleId(7, 10)
    assert cloud.newest(ArticleId(7, 9)) == ArticleId(7, 9)
    assert cloud.newest(ArticleId(8)) is None
    assert pmc.asked() == {"?prefix=PMC7.": 1, "?prefix=PMC8.": 1}


def test_a_listing_is_read_page_by_page(pmc: Any, open_cloud: OpenCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    pmc.page = 2
    for number in range(5):
        pmc.put(f"PMC7.{number + 1}/a&b.xml", b"")
    assert open_cloud().folders("PMC7.") == [f"PMC7.{number + 1}/" for number in range(5)]
    assert pmc.asked() == {"?prefix=PMC7.": 3}
    monkeypatch.setattr(pmc_cloud, "MAX_PAGES", 2)
    with pytest.raises(FetchError, match="has no end"):
        open_cloud().folders("PMC7.")


def test_a_run_sees_one_world_and_the_next_run_a_new_one(pmc: Any, open_cloud: OpenCloud, tmp_path: Path) -> None:
    pmc.add_article(7, b"<article/>", {}, license_code="CC BY")
    first = open_cloud(answers=tmp_path / "first.sqlite")
    assert first.newest(ArticleId(7)) == ArticleId(7, 1)
    assert first.metadata(ArticleId(7, 1)).license == "CC BY"
    pmc.add_article(7, b"<article/>", {}, license_code="CC BY-NC")
    pmc.add_article(7, b"<article/>", {}, version=2)
    repeated = open_cloud(answers=tmp_path / "first.sqlite")
    assert repeated.newest(ArticleId(7)) == ArticleId(7, 1)
    assert repeated.metadata(ArticleId(7, 1)).license == "CC BY"
    fresh = open_cloud(answers=tmp_path / "second.sqlite")
    assert fresh.newest(ArticleId(7)) == ArticleId(7, 2)
    assert fresh.metadata(ArticleId(7, 1)).license == "CC BY-NC"


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><html>sign in</html>", b"\n<html>sorry"])
def test_a_web_page_in_the_place_of_data_is_no_articles_fault(
    body: bytes, pmc: Any, fault: Any, open_cloud: OpenCloud
) -> None:
    name = pmc.add_article(7, b"<article/>", {})
    page = fault(body=body, headers={"ETag": '"page"', "Content-Type": "text/html"})
    pmc.fail(f"metadata/{name}.json", page)
    assert open_cloud().metadata(ArticleId(7, 1)).id == ArticleId(7, 1)
    for key in (f"metadata/{name}.json", "?prefix=PMC7."):
        pmc.fail(key, page, forever=True)
    with pytest.raises(FetchError, match="a web page came"):
        open_cloud(cache=open_cloud().cache.folder / "other").metadata(ArticleId(7, 1))
    with pytest.raises(FetchError, match="a web page came"):
        open_cloud().newest(ArticleId(7))


def test_half_a_json_is_asked_for_again_and_never_kept(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    name = pmc.add_article(7, b"<article/>", {})
    key = f"metadata/{name}.json"
    half = fault(body=pmc.objects[key][:100], headers={"ETag": "none"})
    pmc.fail(key, half, fault(cut=50), fault(wrong=True))
    assert open_cloud().metadata(ArticleId(7, 1)).license == "CC BY"
    pmc.put(key, b'{"pmcid": ')
    with pytest.raises(DataError, match="no JSON came"):
        open_cloud(cache=open_cloud().cache.folder / "other").metadata(ArticleId(7, 1))


def test_an_absent_article_is_not_the_servers_fault_but_an_absent_listing_is(
    pmc: Any, fault: Any, open_cloud: OpenCloud
) -> None:
    with pytest.raises(DataError, match="no such object"):
        open_cloud().metadata(ArticleId(7, 1))
    pmc.fail("?prefix=PMC7.", fault(status=404), forever=True)
    with pytest.raises(FetchError, match="404"):
        open_cloud().newest(ArticleId(7))


def test_no_server_at_all_says_to_repeat(open_cloud: OpenCloud) -> None:
    with pytest.raises(FetchError, match="cannot be reached") as raised:
        open_cloud(url="http://127.0.0.1:9/").newest(ArticleId(7))
    assert "Repeat the command" in str(raised.value)


@pytest.mark.parametrize("url", ["pmc.example", "ftp://x/", "http://", "http://[", "http://x:abc/", "http://x/?a=b"])
def test_what_is_no_address_is_refused(url: str, open_cloud: OpenCloud) -> None:
    with pytest.raises(UsageError, match="no address"):
        open_cloud(url=url)
    with pytest.raises(UsageError, match="--concurrency"):
        open_cloud(concurrency=0)


def test_a_mirror_may_lie_below_a_path(pmc: Any, open_cloud: OpenCloud) -> None:
    pmc.put("mirror/metadata/PMC7.1.json", json.dumps({"pmcid": "PMC7", "version": 1}).encode())
    assert open_cloud(url=f"{pmc.url}mirror").metadata(ArticleId(7, 1)).xml is None


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a//b", "", "a/./b", "a/" + "x" * 300, "a/\ud800"])
def test_a_hostile_key_reaches_no_file_and_no_server(key: str, pmc: Any, open_cloud: OpenCloud) -> None:
    with pytest.raises(DataError, match="is no name"):
        open_cloud().fetch(RemoteFile(key=key), limit=LIMIT)
    assert pmc.log == []


@pytest.mark.parametrize("key", ["a\\..\\..\\b", "C:x", "a\0b", "~/x", "PMC1.1/é.jpg", "a?b#c%2e", "..hidden", "a b"])
def test_an_odd_key_stays_in_the_cache(key: str, pmc: Any, open_cloud: OpenCloud) -> None:
    file, cloud = stored(pmc, key=key), open_cloud()
    path = cloud.fetch(file, limit=LIMIT)
    assert path.resolve().is_relative_to(cloud.cache.folder.resolve()) and path.read_bytes() == BODY
