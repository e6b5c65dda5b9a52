"""Killed at random moments and repeated, a reading ends as an undisturbed one does, and fetches nothing twice."""

from __future__ import annotations

import csv
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

KILLS = 12
BLOCKS_UNTIL_KILLED = (1, 60)
PICTURE_BYTES = 30_000
DRIVER = """
import hashlib, json, sys
from pathlib import Path
from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources.pmc_articles import read_id_file
from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.pmc_figures import ArticlePolicy, read_cloud
from llavamed_cli.corpus.sources.polite_http import Patience
url, cache, ids = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
lines = []
with PmcCloud(url, cache, concurrency=4, patience=Patience(first_wait=0.01, longest_wait=0.02)) as cloud:
    for batch in read_cloud(cloud, read_id_file(ids), ArticlePolicy(), lambda figure: "unwanted" not in figure.caption):
        for item in batch.read():
            if isinstance(item, Rejection):
                lines.append(item.to_json())
            else:
                picture = item.picture.read_bytes() if item.picture.is_file() else b""
                told = [item.id, item.caption, item.mentions, vars(item.source), vars(item.remote or item)["key"]]
                lines.append(told + [hashlib.sha256(picture).hexdigest()])
print(json.dumps(lines))
"""
HREF = re.compile(r'<graphic[^>]*?xlink:href="([^"]+)"')


def add_made_articles(pmc: Any, generator: random.Random) -> list[int]:
    """Ten articles of three figures, of which one is not wanted."""
    for number in range(1, 11):
        figures = "".join(
            f'<fig id="F{place}"><caption><p>A film{", unwanted" * (place == 2)}.</p></caption>'
            f'<graphic xlink:href="g{place}"/></fig>'
            for place in range(1, 4)
        )
        xml = (
            f'<article xmlns:xlink="http://www.w3.org/1999/xlink"><body><p>{"x" * 9_000}</p>{figures}</body></article>'
        )
        pmc.add_article(
            number, xml.encode(), {f"g{place}.jpg": generator.randbytes(PICTURE_BYTES) for place in range(1, 4)}
        )
    return list(range(1, 11))


def add_real_articles(pmc: Any, generator: random.Random, folder: Path) -> list[int]:
    """The ten shortest of the real articles, with noise for pictures."""
    with (folder / "manifest.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["pmcid"]]
    chosen = sorted(rows, key=lambda row: int(row["bytes"]))[:10]
    for row in chosen:
        xml = (folder / row["file"]).read_bytes()
        names = {href.rpartition("/")[2].partition(".jpg")[0] for href in HREF.findall(xml.decode())}
        pictures = {f"{name}.jpg": generator.randbytes(PICTURE_BYTES) for name in sorted(names)}
        pmc.add_article(int(row["pmcid"][3:]), xml, pictures)
    return [int(row["pmcid"][3:]) for row in chosen]


@pytest.mark.parametrize("articles", ["made", "real"])
def test_kill_after_kill(articles: str, pmc: Any, fault: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    generator = random.Random(5)
    if articles == "made":
        numbers = add_made_articles(pmc, generator)
    else:
        numbers = add_real_articles(pmc, generator, request.getfixturevalue("shared") / "data" / "pmc_jats")
    ids = tmp_path / "ids"
    ids.write_text("".join(f"PMC{number}\n" for number in numbers) + "PMC999999\nno id\n")
    undisturbed, code = run(pmc, tmp_path / "undisturbed", ids)
    assert code == 0 and f"PMC{numbers[0]}" in undisturbed

    pmc.log.clear()
    pmc.pause = 0.001
    cache, verified = tmp_path / "killed", list[tuple[int, set[str]]]()
    for _ in range(KILLS):
        pmc.fail(generator.choice(list(pmc.objects)), fault(status=503), fault(cut=generator.randrange(3_000)))
        output, code = run(pmc, cache, ids, kill_after=generator.randint(*BLOCKS_UNTIL_KILLED))
        assert (output, code) == ("", -signal.SIGKILL)
        verified.append((len(pmc.log), kept(pmc, cache)))
    output, code = run(pmc, cache, ids)

    assert code == 0 and output == undisturbed
    assert objects(cache) == objects(tmp_path / "undisturbed") and not list((cache / "parts").iterdir())
    assert len(verified[-1][1]) > len(verified[0][1])
    for log_length, keys in verified:
        assert not keys & set(pmc.asked(since=log_length))
    assert 206 in {line.status for line in pmc.log}, "no kill left a part to go on with"


def run(pmc: Any, cache: Path, ids: Path, kill_after: int | None = None) -> tuple[str, int]:
    """Run the driver, killed when the server has sent so many blocks; what it printed, and how it ended."""
    arguments = [sys.executable, "-c", DRIVER, pmc.url, str(cache), str(ids)]
    driver = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    sent = 0

    def count() -> None:
        nonlocal sent
        sent += 1
        if sent == kill_after:
            os.kill(driver.pid, signal.SIGKILL)

    pmc.on_block = count
    output, _ = driver.communicate(timeout=60)
    pmc.on_block = lambda: None
    return output, driver.returncode


def kept(pmc: Any, cache: Path) -> set[str]:
    """The keys of the objects that lie in their place, and of the answers that are kept."""
    there = {path.name for path in (cache / "objects").rglob("*") if path.is_file()}
    keys = {key for key in pmc.objects if key.rpartition("/")[2] in there and there_in(cache, key)}
    if (cache / "answers.sqlite").is_file():
        with closing(sqlite3.connect(cache / "answers.sqlite")) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
            questions = connection.execute("SELECT question FROM answer").fetchall() if tables else []
        for (question,) in questions:
            kind, _, name = question.partition(" ")
            keys.add(f"?prefix={name}." if kind == "versions" else f"metadata/{name}.json")
    return keys


def there_in(cache: Path, key: str) -> bool:
    return any(path.is_file() for path in (cache / "objects").glob(f"*/{key}"))


def objects(cache: Path) -> dict[str, bytes]:
    folder = cache / "objects"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
