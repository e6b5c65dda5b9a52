"""What no publisher sends: each file is set aside with one reason, in little time and memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources import jats
from llavamed_cli.corpus.sources.articles import article_batches
from llavamed_cli.corpus.sources.jats import parse_articles, read_article_file
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Figure

XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
FIG = '<fig id="F"><caption><p>{}</p></caption><graphic xlink:href="g"/></fig>'


def article(body: str, head: str = "") -> bytes:
    return f"{head}<article {XLINK}><front><article-meta/></front>{body}</article>".encode()


def read(data: bytes, folder: Path) -> tuple[list[Figure], list[Fault]]:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "a.xml"
    file.write_bytes(data)
    faults: list[Fault] = []
    return list(read_article_file(file, {}, faults.append)), faults


WHOLE = article(FIG.format("A lung."))
TEN_TIMES = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12))
LAUGHS = f"<!DOCTYPE article [<!ENTITY l0 'ha'>{TEN_TIMES}]>"
QUADRATIC = f"<!DOCTYPE article [<!ENTITY a '{'a' * 100_000}'>]>"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not well-formed XML"),
        (b"\x00\x01", "not well-formed XML"),
        (b"<html/>", "no JATS article: the root is <html>"),
        (WHOLE[:-20], "not well-formed XML"),
        (WHOLE[: len(WHOLE) // 2], "not well-formed XML"),
        (WHOLE.replace(b"lung", b"lu\x00ng"), "not well-formed XML"),
        (WHOLE.replace(b"lung", b"lu&#1;ng"), "not well-formed XML"),
        (WHOLE.replace(b"lung", b"lu\xffng"), "not well-formed XML"),
        (b'<?xml version="1.0" encoding="UTF-16"?>' + WHOLE, "not well-formed XML"),
        (b'<?xml version="1.0" encoding="no-such"?>' + WHOLE, "not well-formed XML"),
        (WHOLE.replace(b"<caption>", b"<caption><caption>"), "not well-formed XML"),
        (article("<p>" * 5_000 + "</p>" * 5_000), "not well-formed XML"),
        (article('<fig id="&l11;"/>', LAUGHS), "not well-formed XML"),
        (article("<p>&l11;</p>", LAUGHS), "not well-formed XML"),
        (article(f'<fig id="{"&a;" * 50_000}"/>', QUADRATIC), "not well-formed XML"),
        (article("<p/>" * (jats.MAX_XML_NODES + 1)), "tags and attributes"),
        (article("&e;" * (jats.MAX_XML_NODES + 1), "<!DOCTYPE article [<!ENTITY e 'x'>]>"), "tags and attributes"),
        (article("<!--" + "x" * jats.MAX_XML_BYTES + "-->"), "MiB of XML"),
    ],
    ids=[
        "empty",
        "binary",
        "html",
        "cut",
        "half",
        "nul",
        "control",
        "latin",
        "utf16",
        "encoding",
        "unbalanced",
        "deep",
        "billion",
        "billion-text",
        "quadratic",
        "nodes",
        "entities",
        "large",
    ],
)
def test_what_is_no_article_is_set_aside_with_one_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    started = time.process_time()
    figures, faults = read(data, tmp_path)
    assert figures == [] and len(faults) == 1
    assert reason in faults[0].reason and "\n" not in faults[0].reason and faults[0].where.endswith("a.xml")
    assert time.process_time() - started < 5


def test_one_bad_file_is_one_rejection_and_the_others_are_read(tmp_path: Path) -> None:
    for name, data in (("a", WHOLE), ("b", WHOLE[:-20]), ("c", WHOLE)):
        (tmp_path / f"{name}.xml").write_bytes(data)
    items = [item for batch in article_batches(tmp_path, None, tmp_path / "scratch") for item in batch.read()]
    assert [item.id if isinstance(item, Figure) else item.stage for item in items] == ["a-F", "read", "c-F"]
    (rejection,) = [item for item in items if isinstance(item, Rejection)]
    assert rejection.where == str(tmp_path / "b.xml") and "not well-formed" in (rejection.detail or "")


def test_entities_are_never_resolved(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET", encoding="utf-8")
    there = secret.as_uri()
    head = f'<!DOCTYPE article [<!ENTITY x SYSTEM "{there}"><!ENTITY y "why"><!ENTITY % z SYSTEM "{there}"> %z;]>'
    figures, faults = read(article(FIG.format("A nodule &x; of &y; &amp; size."), head), tmp_path / "x")
    assert [figure.caption for figure in figures] == ["A nodule of & size."]
    assert faults == []


def test_a_dtd_is_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("the network was asked"))
    (tmp_path / "x.dtd").write_text("<!ENTITY beta 'SECRET'>", encoding="utf-8")
    head = f'<!DOCTYPE article PUBLIC "-//X" "{(tmp_path / "x.dtd").as_uri()}">'
    figures, _ = read(article(FIG.format("TGF-&beta; &unknown;"), head), tmp_path / "x")
    assert figures[0].caption == "TGF-β."


def test_entities_that_cost_memory_cost_little(tmp_path: Path) -> None:
    """Half a million references in the text to an entity of 100 KB would be 50 GB, were they resolved."""
    file = tmp_path / "a.xml"
    file.write_bytes(article(f"<p>{'&a;' * 500_000}</p>" + FIG.format("A lung."), QUADRATIC))
    program = (
        "import sys, pathlib; from llavamed_cli.corpus.sources.jats import read_article_file\n"
        "figures = list(read_article_file(pathlib.Path(sys.argv[1]), {}, lambda fault: print(fault)))"
    )

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
        resource.setrlimit(resource.RLIMIT_CPU, (30, 30))

    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], preexec_fn=bounded, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_paragraph_of_figure_words_takes_linear_time(tmp_path: Path) -> None:
    label = "<label>Figure 1</label>"
    text = "Figs. 1, 2 and 3-9, " * 20_000 + "(" * 20_000 + "fig. 1 in the " * 20_000
    started = time.process_time()
    figures, _ = read(
        article(f"<p>{text}</p>" + FIG.format("Reproduced " * 20_000).replace("<caption>", label + "<caption>")),
        tmp_path,
    )
    assert len(figures) == 1 and figures[0].mentions
    assert time.process_time() - started < 5


def test_what_cannot_be_opened_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        parse_articles(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        parse_articles(tmp_path / "none.xml")


@given(st.binary(max_size=6), st.integers(0, len(WHOLE)), st.integers(0, 40))
def test_a_damaged_article_is_figures_or_one_fault(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, start: int, length: int
) -> None:
    figures, faults = read(WHOLE[:start] + noise + WHOLE[start + length :], tmp_path_factory.getbasetemp())
    assert len(figures) + len(faults) <= 1
