from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.pmc_inventory import INVENTORIES, read_inventory
from llavamed_cli.corpus.sources.pmc_metadata import ArticleId
from llavamed_cli.errors import DataError
from llavamed_cli.progress import Silent

OpenCloud = Callable[..., PmcCloud]
OLD, NEW = "2026-11-19T01-00Z", "2026-11-20T01-00Z"


def articles(cloud: PmcCloud, day: str | None = None) -> list[str]:
    return [str(article) for article in read_inventory(cloud, day, Silent())]


def metadata_keys(*names: str) -> list[str]:
    return [f"metadata/{name}.json" for name in names]


def test_the_newest_version_of_every_article_comes_by_number(pmc: Any, open_cloud: OpenCloud) -> None:
    pmc.add_inventory(OLD, metadata_keys("PMC1.1"))
    pmc.add_inventory(
        NEW,
        [*metadata_keys("PMC30.2", "PMC4.1", "PMC30.10"), "metadata/readme.txt", "PMC5.1/a.jpg", "PMC6.1/PMC7.1.json"],
        [*metadata_keys("PMC30.1", "PMC2.1"), "PMC2.1/PMC2.1.json", "PMC2.1/PMC2.1.xml", "PMC9.3/PMC9.3.json"],
    )
    cloud = open_cloud()
    assert articles(cloud) == ["PMC2.1", "PMC4.1", "PMC9.3", "PMC30.10"]
    assert articles(cloud, "2026-11-19") == ["PMC1.1"]


def test_a_repeated_run_keeps_its_inventory_and_reads_it_once(pmc: Any, open_cloud: OpenCloud) -> None:
    pmc.add_inventory(OLD, metadata_keys("PMC1.1"))
    assert articles(open_cloud()) == ["PMC1.1"]
    pmc.add_inventory(NEW, metadata_keys("PMC2.1"))
    assert articles(open_cloud()) == ["PMC1.1"]
    assert all(count == 1 for count in pmc.asked().values())
    assert articles(open_cloud(answers=open_cloud().cache.folder / "next.sqlite")) == ["PMC2.1"]


def test_an_interrupted_reading_is_done_anew_without_fetching_again(
    pmc: Any, fault: Any, open_cloud: OpenCloud
) -> None:
    pmc.add_inventory(NEW, metadata_keys("PMC1.1"), metadata_keys("PMC2.1"))
    second = f"{INVENTORIES}data/{NEW}-1.csv.gz"
    pmc.fail(second, *[fault(status=404)])
    with pytest.raises(DataError, match="no such object"):
        articles(open_cloud())
    assert articles(open_cloud()) == ["PMC1.1", "PMC2.1"]
    assert pmc.asked()[f"{INVENTORIES}data/{NEW}-0.csv.gz"] == 1


def test_a_day_without_inventory_says_which_there_are(pmc: Any, open_cloud: OpenCloud) -> None:
    with pytest.raises(DataError, match="there is none at all"):
        articles(open_cloud())
    pmc.add_inventory(OLD, [])
    pmc.add_inventory(NEW, [])
    with pytest.raises(DataError, match="no inventory of 2025-01-01; there are those from 2026-11-19 to 2026-11-20"):
        articles(open_cloud(), "2025-01-01")


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        {},
        {"fileFormat": "ORC", "fileSchema": "Bucket, Key", "files": []},
        {"fileFormat": "CSV", "fileSchema": "Bucket", "files": []},
        {"fileFormat": "CSV", "fileSchema": "Bucket, Key", "files": [{}]},
        {"fileFormat": "CSV", "fileSchema": "Bucket, Key", "files": [{"key": "PMC1.1/PMC1.1.xml"}]},
        {"fileFormat": "CSV", "fileSchema": "Bucket, Key", "files": [{"key": "inventory-reports/../../x"}]},
        {"fileFormat": "CSV", "fileSchema": "Bucket, Key", "files": [{"key": 7}]},
    ],
)
def test_a_manifest_that_is_none_is_refused(manifest: Any, pmc: Any, open_cloud: OpenCloud) -> None:
    pmc.put(f"{INVENTORIES}{NEW}/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(DataError):
        articles(open_cloud())


@pytest.mark.parametrize("shard", [b"no gzip", gzip.compress(b'"b","k"\n' * 99)[:-9], gzip.compress(b"one column\n")])
def test_a_shard_that_cannot_be_read_is_told(shard: bytes, pmc: Any, open_cloud: OpenCloud, tmp_path: Path) -> None:
    pmc.put(f"{INVENTORIES}data/x.csv.gz", shard)
    files = [{"key": f"{INVENTORIES}data/x.csv.gz"}]
    manifest = {"fileFormat": "CSV", "fileSchema": "Bucket, Key", "files": files}
    pmc.put(f"{INVENTORIES}{NEW}/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(DataError, match="an inventory shard cannot be read"):
        articles(open_cloud())
    assert not list((tmp_path / "cache").glob("inventory-*.sqlite"))


def test_memory_stays_flat(pmc: Any, open_cloud: OpenCloud) -> None:
    numbers = random.Random(0).sample(range(1, 10**7), 30_000)
    pmc.add_inventory(NEW, metadata_keys(*(f"PMC{number}.1" for number in numbers)))
    cloud = open_cloud()
    tracemalloc.start()
    try:
        read = sum(isinstance(article, ArticleId) for article in read_inventory(cloud, None, Silent()))
        assert read == len(numbers)
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20
    finally:
        tracemalloc.stop()
