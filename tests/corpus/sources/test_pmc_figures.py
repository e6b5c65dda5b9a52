from __future__ import annotations

import csv
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.corpus.screening.license_policy import parse_license_policy
from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.pmc_figures import ArticlePolicy, read_cloud
from llavamed_cli.corpus.sources.pmc_metadata import ArticleId
from llavamed_cli.errors import FetchError
from llavamed_cli.records import Figure, RemoteFile

OpenCloud = Callable[..., PmcCloud]
POLICY = ArticlePolicy()
HREF = re.compile(r'<graphic[^>]*?xlink:href="([^"]+)"')


def article(number: int, *hrefs: str, permissions: str = "", caption: str = "A chest film.") -> bytes:
    """JATS with a figure for every href."""
    figures = "".join(
        f'<fig id="F{place}"><label>Figure {place}.</label><caption><p>{caption}</p></caption>'
        f'<graphic xlink:href="{href}"/></fig>'
        for place, href in enumerate(hrefs, start=1)
    )
    return (
        '<article xmlns:xlink="http://www.w3.org/1999/xlink"><front><article-meta>'
        f'<article-id pub-id-type="pmc">{number}</article-id>{permissions}</article-meta></front>'
        f"<body>{figures}</body></article>"
    ).encode()


def read(
    cloud: PmcCloud,
    articles: Iterable[ArticleId | Rejection],
    policy: ArticlePolicy = POLICY,
    wanted: Callable[[Figure], bool] = lambda figure: True,
) -> list[Figure | Rejection]:
    return [item for batch in read_cloud(cloud, articles, policy, wanted) for item in batch.read()]


def told(items: Iterable[Any]) -> list[str]:
    return [item.reason if isinstance(item, Rejection) else item.id for item in items]


def test_an_article_comes_with_its_pictures(pmc: Any, open_cloud: OpenCloud) -> None:
    name = pmc.add_article(7, article(7, "g001", "g002.tif"), {"g001.jpg": b"one", "g002.jpg": b"two", "s.pdf": b"no"})
    figures = read(open_cloud(), [ArticleId(7)])
    assert told(figures) == ["PMC7-F1", "PMC7-F2"]
    first = figures[0]
    assert isinstance(first, Figure) and first.picture.read_bytes() == b"one"
    assert first.remote == RemoteFile(key=f"{name}/g001.jpg", md5=pmc.etags[f"{name}/g001.jpg"])
    source = first.source
    assert (source.kind, source.file, source.pmcid, source.version) == ("pmc", f"{name}/{name}.xml", "PMC7", 1)
    assert (source.license, source.citation, first.caption) == ("CC BY", "Journal of 7", "A chest film.")
    assert f"{name}/s.pdf" not in pmc.asked()


def test_only_wanted_pictures_are_fetched_and_none_in_a_dry_run(pmc: Any, open_cloud: OpenCloud) -> None:
    name = pmc.add_article(7, article(7, "a", "b"), {"a.jpg": b"a", "b.jpg": b"b"})
    kept = read(open_cloud(), [ArticleId(7)], wanted=lambda figure: figure.id == "PMC7-F2")
    assert [item.picture.is_file() for item in kept if isinstance(item, Figure)] == [False, True]
    assert all(item.remote for item in kept if isinstance(item, Figure))
    assert f"{name}/a.jpg" not in pmc.asked()
    rehearsed = read(open_cloud(), [ArticleId(7)], wanted=lambda figure: False)
    assert rehearsed == kept


@pytest.mark.parametrize(
    ("href", "files", "chosen"),
    [
        ("g1", ["g1.gif", "g1.jpg", "g1.tif"], "g1.jpg"),
        ("g1.tif", ["g1.gif", "g1.jpg", "g1.tif"], "g1.jpg"),
        ("g1.gif", ["g1.gif", "g1.jpg"], "g1.jpg"),
        ("G1.JPG", ["g1.gif", "g1.jpg"], "g1.jpg"),
        ("g1.png", ["g1.jpg", "g1.png"], "g1.png"),
        ("g1.tif", ["g1.gif"], "g1.gif"),
        ("g1.v2", ["g1.jpg", "g1.v2.jpg"], "g1.v2.jpg"),
        ("info:doi/10.1371/journal.pone.1.g001", ["journal.pone.1.g001.jpg"], "journal.pone.1.g001.jpg"),
        ("../../PMC8.1/g1.jpg", ["g1.jpg"], "g1.jpg"),
        ("g1", ["g11.jpg", "g1.mp4"], None),
    ],
)
def test_the_picture_a_graphic_means(
    href: str, files: list[str], chosen: str | None, pmc: Any, open_cloud: OpenCloud
) -> None:
    pmc.add_article(7, article(7, href), {file: file.encode() for file in files})
    (figure,) = read(open_cloud(), [ArticleId(7)])
    assert isinstance(figure, Figure)
    assert (figure.remote.key if figure.remote else None) == (f"PMC7.1/{chosen}" if chosen else None)
    assert figure.picture.is_file() == (chosen is not None)
    asked = set(pmc.asked()) - {"?prefix=PMC7.", "metadata/PMC7.1.json", "PMC7.1/PMC7.1.xml"}
    assert asked == ({f"PMC7.1/{chosen}"} if chosen else set())


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"is_retracted": True}, "retracted article"),
        ({"is_historical_ocr": True}, "scanned article (OCR)"),
        ({"is_manuscript": True}, "author manuscript"),
        ({"license_code": "CC BY-NC"}, "licence not accepted"),
        ({"license_code": None}, "licence not accepted"),
        ({"xml_url": None}, "article without full text"),
    ],
)
def test_what_is_refused_costs_its_metadata_alone(
    metadata: dict[str, Any], reason: str, pmc: Any, open_cloud: OpenCloud
) -> None:
    pmc.add_article(7, article(7, "a"), {"a.jpg": b"a"}, **metadata)
    policy = ArticlePolicy(parse_license_policy("commercial"))
    (item,) = read(open_cloud(), [ArticleId(7)], policy)
    assert isinstance(item, Rejection)
    assert (item.id, item.stage, item.reason, item.where) == ("PMC7.1", "metadata", reason, "pmc:PMC7.1")
    assert set(pmc.asked()) == {"?prefix=PMC7.", "metadata/PMC7.1.json"}


def test_the_newest_version_is_read_unless_one_is_named(pmc: Any, open_cloud: OpenCloud) -> None:
    for version in (1, 2):
        pmc.add_article(7, article(7, "a"), {"a.jpg": b"%d" % version}, version=version)
    pictures = [
        item.picture for item in read(open_cloud(), [ArticleId(7), ArticleId(7, 1)]) if isinstance(item, Figure)
    ]
    assert [picture.read_bytes() for picture in pictures] == [b"2", b"1"]


def test_a_figure_may_be_another_ones_to_give(pmc: Any, open_cloud: OpenCloud) -> None:
    pmc.add_article(7, article(7, "a", caption="A film. Reproduced with permission from Smith."), {"a.jpg": b"a"})
    permissions = "<permissions><license license-type='x'><p>CC BY-NC</p></license></permissions>"
    pmc.add_article(8, article(8, "a", permissions=permissions), {"a.jpg": b"a"})
    licenses = [
        item.source.license for item in read(open_cloud(), [ArticleId(7), ArticleId(8)]) if isinstance(item, Figure)
    ]
    assert licenses == ["third party", "CC BY-NC"]


def test_what_is_wrong_with_an_article_sets_it_aside_in_its_place(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    for number in range(1, 8):
        pmc.add_article(number, article(number, "a"), {"a.jpg": b"a"})
    pmc.put("metadata/PMC2.1.json", b"{")
    pmc.fail("PMC3.1/PMC3.1.xml", fault(status=404), forever=True)
    pmc.fail("PMC4.1/a.jpg", fault(wrong=True), forever=True)
    pmc.add_article(5, b"<article><broken", {})
    pmc.add_article(6, article(66, "a"), {"a.jpg": b"a"})
    told_before = Rejection(id=None, stage="read", reason="not a PMC id", where="ids:1")
    items = read(open_cloud(), [told_before, *map(ArticleId, range(1, 9))])
    assert told(items) == [
        "not a PMC id",
        "PMC1-F1",
        "article cannot be fetched",
        "article cannot be fetched",
        "picture cannot be fetched",
        "unreadable record",
        "article cannot be fetched",
        "PMC7-F1",
        "no such article",
    ]
    details = [item.detail for item in items if isinstance(item, Rejection)]
    assert "no JSON came" in str(details[1]) and "(404)" in str(details[2]) and "a.jpg: its MD5 is" in str(details[3])
    assert "not well-formed XML" in str(details[4]) and "says that it is PMC66" in str(details[5])
    figure = items[4]
    assert isinstance(figure, Rejection) and (figure.id, figure.where) == ("PMC4-F1", "PMC4.1/PMC4.1.xml")


def test_figures_and_rejections_of_one_article_keep_their_order(pmc: Any, open_cloud: OpenCloud) -> None:
    xml = article(7, "a", "b", "c").replace(b'<graphic xlink:href="b"/>', b"")
    pmc.add_article(7, xml, {"a.jpg": b"a", "c.jpg": b"c"})
    assert told(read(open_cloud(), [ArticleId(7)])) == ["PMC7-F1", "unreadable record", "PMC7-F3"]


def test_media_that_lead_out_are_never_fetched(pmc: Any, open_cloud: OpenCloud, tmp_path: Path) -> None:
    bucket = "s3://pmc-oa-opendata"
    hostile = [f"{bucket}/PMC7.1/../a.jpg", "s3://other/PMC7.1/a.jpg", f"{bucket}/PMC8.1/a.jpg", f"{pmc.url}a.jpg"]
    hostile += [f"{bucket}/PMC7.1/{'x' * 300}.jpg", f"{bucket}/PMC7.1/\ud800.jpg"]
    pmc.add_article(7, article(7, "a", "x" * 300), {}, media_urls=hostile)
    items = read(open_cloud(), [ArticleId(7)])
    assert told(items) == ["PMC7-F1", "PMC7-F2"] and not any(item.remote for item in items if isinstance(item, Figure))
    assert set(pmc.asked()) == {"?prefix=PMC7.", "metadata/PMC7.1.json", "PMC7.1/PMC7.1.xml"}
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


def test_articles_are_read_at_once_and_come_in_order(pmc: Any, open_cloud: OpenCloud) -> None:
    numbers = list(range(20, 0, -1))
    for number in numbers:
        pmc.add_article(number, article(number, "a"), {"a.jpg": b"a"})
    busy, most, lock = 0, 0, threading.Lock()
    meet = threading.Barrier(4)

    def wanted(figure: Figure) -> bool:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        meet.wait(timeout=10)
        with lock:
            busy -= 1
        return True

    items = read(open_cloud(concurrency=4), map(ArticleId, numbers), wanted=wanted)
    assert told(items) == [f"PMC{number}-F1" for number in numbers]
    assert most == 4


def test_a_server_that_goes_down_ends_it_and_a_repetition_goes_on(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    for number in range(1, 7):
        pmc.add_article(number, article(number, "a"), {"a.jpg": b"%d" % number})
    pmc.fail("PMC4.1/a.jpg", *[fault(status=503)] * 4)
    came = []
    with pytest.raises(FetchError, match=r"503(.|\n)*Repeat the command"):
        for batch in read_cloud(open_cloud(concurrency=2), map(ArticleId, range(1, 7)), POLICY, lambda figure: True):
            came += told(batch.read())
    assert came == [f"PMC{number}-F1" for number in range(1, len(came) + 1)] and len(came) <= 3
    assert told(read(open_cloud(), map(ArticleId, range(1, 7)))) == [f"PMC{number}-F1" for number in range(1, 7)]
    assert all(count == 1 for key, count in pmc.asked().items() if key != "PMC4.1/a.jpg")


def test_a_stream_that_is_closed_stops_what_is_being_fetched(pmc: Any, fault: Any, open_cloud: OpenCloud) -> None:
    for number in range(1, 7):
        pmc.add_article(number, article(number, "a"), {"a.jpg": b"a"})
        if number > 1:
            pmc.fail(f"PMC{number}.1/a.jpg", fault(status=503, headers={"Retry-After": "60"}), forever=True)
    stream = read_cloud(open_cloud(concurrency=2), map(ArticleId, range(1, 7)), POLICY, lambda figure: True)
    assert told(next(stream).read()) == ["PMC1-F1"]
    closed = threading.Thread(target=stream.close)  # type: ignore[attr-defined]
    closed.start()
    closed.join(timeout=5)
    assert not closed.is_alive()


def test_memory_is_that_of_a_window(pmc: Any, open_cloud: OpenCloud) -> None:
    taken = 0

    def endless() -> Iterator[ArticleId]:
        nonlocal taken
        while True:
            taken += 1
            yield ArticleId(taken, 1)

    stream = read_cloud(open_cloud(concurrency=2), endless(), POLICY, lambda figure: True)
    assert [told(batch.read()) for batch in islice(stream, 30)] == [["article cannot be fetched"]] * 30
    assert taken < 50


def test_the_real_articles(pmc: Any, open_cloud: OpenCloud, shared: Path) -> None:
    """Figure counts and licences are those of the data set's manifest, made by others; pictures bear their href."""
    folder = shared / "data" / "pmc_jats"
    with (folder / "manifest.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["pmcid"]]
    for row in rows:
        xml = (folder / row["file"]).read_bytes()
        hrefs = {href.rpartition("/")[2].removesuffix(".tif") for href in HREF.findall(xml.decode())}
        names = {href if href.endswith((".jpg", ".gif", ".png")) else f"{href}.jpg": href for href in hrefs}
        pictures = {name: href.encode() for name, href in names.items()}
        pmc.add_article(int(row["pmcid"][3:]), xml, pictures, license_code=row["licence"][:5])
    policy = ArticlePolicy(parse_license_policy("CC BY"))
    items = read(open_cloud(concurrency=8), [ArticleId(int(row["pmcid"][3:])) for row in rows], policy)
    figures = [item for item in items if isinstance(item, Figure)]
    assert len(rows) == 113 and not [item for item in items if isinstance(item, Rejection)]
    distinct = {(figure.source.pmcid, figure.source.figure, figure.caption) for figure in figures}
    counts = Counter(pmcid for pmcid, _, _ in distinct)
    assert [counts[row["pmcid"]] for row in rows] == [int(row["figs"]) for row in rows]
    for figure in figures:
        assert figure.remote is not None and figure.picture.read_bytes().decode() in figure.picture.name
        assert figure.id.startswith(f"{figure.source.pmcid}-") and figure.source.version == 1
    assert max(pmc.asked().values()) == 1


def test_a_policy_takes_any_licence_by_default(pmc: Any, open_cloud: OpenCloud) -> None:
    pmc.add_article(7, article(7, "a"), {"a.jpg": b"a"}, license_code=None)
    cloud = open_cloud()
    metadata = cloud.metadata(ArticleId(7, 1))
    assert POLICY.refuses(metadata) is None
    assert POLICY.refuses(replace(metadata, is_retracted=True)) == ("retracted article", None)
