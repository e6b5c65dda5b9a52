from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from llavamed_cli.corpus.sources.jats import parse_articles, read_jats
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Figure

XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'


def read(source: Path, images: Path | None = None) -> tuple[list[Figure], list[Fault]]:
    faults: list[Fault] = []
    return list(read_jats(source, images, faults.append)), faults


def write_article(folder: Path, body: str, head: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "a.xml"
    file.write_text(f"{head}<article {XLINK}><front><article-meta/></front>{body}</article>", encoding="utf-8")
    return file


def test_an_article_gives_its_figures_with_everything_known(article_folder: Path) -> None:
    figures, faults = read(article_folder)
    first, second = figures
    assert (first.id, first.label, first.picture) == ("PMC77-F1", "Figure 1", article_folder / "fx1.jpg")
    assert (
        first.caption == "Chest X-ray of the patient. The arrow shows a round nodule of 10^2 mm in the left upper lobe."
    )
    assert first.mentions == (
        "The film (Fig. 1) shows a round nodule in the left upper lobe.",
        "A mass is seen on the right as well (Figs. 1-3).",
    )
    assert first.source.license == "CC BY"
    assert first.source.citation == "Lee AB. A rare nodule. Chest Letters (2020). doi:10.1/x"
    assert (first.source.kind, first.source.pmcid) == ("jats", "PMC77")
    assert second.picture == article_folder / "fx2.png"  # a .tif in the text, a .png on the disk
    assert second.source.license == "third party"
    assert second.mentions == ("A mass is seen on the right as well (Figs. 1-3).",)  # inside the range
    assert [fault.record_id for fault in faults] == ["PMC77-F3"]


def test_every_layout_of_a_folder_is_read(article_folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    shutil.copytree(article_folder, many / "one")
    shutil.copytree(article_folder, many / "deeper" / "two")
    assert len(read(many)[0]) == 4
    assert len(read(article_folder / "article.nxml")[0]) == 2
    figures, _ = read(write_article(tmp_path / "flat", '<fig id="f"><graphic xlink:href="fx1"/></fig>'), article_folder)
    assert figures[0].picture == article_folder / "fx1.jpg"


@pytest.mark.parametrize(
    ("fig", "names"),
    [
        ('<alternatives><graphic xlink:href="a.tif"/><graphic xlink:href="b.png"/></alternatives>', ["a"]),
        ('<graphic xlink:href="a"/><graphic xlink:href="b"/>', ["a", "b"]),
        ('<graphic xlink:href="info:doi/10.1371/journal.pone.1.g001"/>', ["journal.pone.1.g001"]),
        ('<graphic xlink:href="../../etc/passwd"/>', ["passwd"]),
        ('<graphic href="..\\\\..\\\\boot.ini"/>', ["boot.ini"]),
    ],
)
def test_graphics_are_found_in_every_form_and_stay_in_the_folder(fig: str, names: list[str], tmp_path: Path) -> None:
    figures, _ = read(write_article(tmp_path / "x", f'<body><fig id="F1">{fig}</fig></body>'))
    assert [figure.picture.name.removesuffix(".tif") for figure in figures] == names
    assert all(figure.picture.parent == tmp_path / "x" for figure in figures)
    assert [figure.id for figure in figures] == ["a-F1", "a-F1-2"][: len(names)]


def test_a_group_lends_its_caption_and_label(tmp_path: Path) -> None:
    body = (
        "<body><fig-group><label>Fig. 4</label><caption><p>Of the group.</p></caption>"
        '<fig id="a"><graphic xlink:href="x"/></fig>'
        '<fig id="b"><caption><p>Its own.</p></caption><graphic xlink:href="y"/></fig></fig-group></body>'
    )
    figures, _ = read(write_article(tmp_path / "x", body))
    assert [figure.caption for figure in figures] == ["Of the group.", "Its own."]
    assert [figure.label for figure in figures] == ["Fig. 4", "Fig. 4"]


def test_a_thumbnail_gives_way_to_the_picture(tmp_path: Path, draw: Callable[..., Path]) -> None:
    for name in ("g1.gif", "g1.jpg"):
        draw(tmp_path / "x" / name)
    figures, _ = read(write_article(tmp_path / "x", '<fig id="F1"><graphic xlink:href="g1"/></fig>'))
    assert figures[0].picture.name == "g1.jpg"


@pytest.mark.parametrize(
    ("permissions", "license"),
    [
        (
            '<permissions><license xlink:href="https://creativecommons.org/licenses/by-nc/4.0/"/></permissions>',
            "CC BY-NC",
        ),
        ("<permissions><copyright-statement>Elsevier 2020</copyright-statement></permissions>", "third party"),
        ("<attrib>Adapted with permission from Smith.</attrib>", "third party"),
        ("", "CC BY"),
    ],
)
def test_a_figures_own_permissions_override(permissions: str, license: str, article_folder: Path) -> None:
    file = article_folder / "article.nxml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('<graphic xlink:href="fx1"/>', f'<graphic xlink:href="fx1"/>{permissions}'))
    assert read(article_folder)[0][0].source.license == license


def test_a_namespace_and_an_efetch_wrapper_change_nothing(article_folder: Path) -> None:
    file = article_folder / "article.nxml"
    text = file.read_text(encoding="utf-8")
    plain, _ = read(article_folder)
    body = text[text.index("<article ") :].replace("<article ", '<article xmlns="https://jats.nlm.nih.gov/ns/1.3/" ')
    file.write_text(f"<pmc-articleset>{body}</pmc-articleset>", encoding="utf-8")
    wrapped, _ = read(article_folder)
    assert [(f.id, f.caption, f.mentions) for f in wrapped] == [(f.id, f.caption, f.mentions) for f in plain]


def test_figures_that_share_an_id_or_have_none_are_kept_apart(tmp_path: Path) -> None:
    body = "".join(
        f'<fig{name}><graphic xlink:href="g{n}"/></fig>' for n, name in enumerate([' id="F"', ' id="F"', ""])
    )
    figures, _ = read(write_article(tmp_path / "x", f"<body>{body}</body>"))
    assert [(figure.id, figure.picture.name) for figure in figures] == [
        ("a-F", "g0"),
        ("a-fig2", "g1"),
        ("a-fig3", "g2"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<article><p>", "not well-formed XML"),
        ("", "not well-formed XML"),
        ("<html/>", "no JATS article: the root is <html>"),
        ("\x00\x01", "not well-formed XML"),
    ],
)
def test_what_is_no_article_is_set_aside(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "b.xml").write_text(text, encoding="utf-8")
    figures, faults = read(tmp_path)
    assert figures == [] and len(faults) == 1
    assert reason in faults[0].reason and faults[0].where.endswith("b.xml")


def test_entities_are_never_resolved(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET", encoding="utf-8")
    head = f'<!DOCTYPE article [<!ENTITY x SYSTEM "{secret.as_uri()}"><!ENTITY y "why">]>'
    caption = "<p>A nodule &x; of &y; &amp; size.</p>"
    body = f'<fig id="F"><caption>{caption}</caption><graphic xlink:href="g"/></fig>'
    figures, faults = read(write_article(tmp_path / "x", body, head))
    assert [figure.caption for figure in figures] == ["A nodule of & size."]
    assert faults == []


@pytest.mark.parametrize("body", ['<fig id="&l11;"/>', "<p>&l11;</p>"])
def test_a_billion_laughs_are_refused(body: str, tmp_path: Path) -> None:
    laughs = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12))
    head = f"<!DOCTYPE article [<!ENTITY l0 'ha'>{laughs}]>"
    with pytest.raises(DataError, match="not well-formed"):
        parse_articles(write_article(tmp_path / "x", body, head))


@pytest.fixture(scope="module")
def real(shared: Path) -> tuple[Path, list[Figure], list[Fault]]:
    folder = shared / "data" / "pmc_jats"
    return (folder, *read(folder))


def test_real_articles_give_the_figures_that_the_manifest_counts(real: tuple[Path, list[Figure], list[Fault]]) -> None:
    folder, figures, faults = real
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        counted = {row["file"]: int(row["figs"]) for row in csv.DictReader(stream)}
    assert Counter(Path(figure.source.file or "").name for figure in figures) == counted
    assert len(figures) == 644 and faults == []
    assert len({figure.id for figure in figures}) == 644


def test_real_articles_are_cc_by_as_the_manifest_says(real: tuple[Path, list[Figure], list[Fault]]) -> None:
    licenses = Counter(figure.source.license for figure in real[1])
    assert set(licenses) == {"CC BY", "third party"}
    assert licenses["third party"] == 6  # "redrawn from", "adapted from", "modified from" in their captions


def test_real_captions_are_clean_text(real: tuple[Path, list[Figure], list[Fault]]) -> None:
    for figure in real[1]:
        for text in (figure.caption, *figure.mentions):
            assert text == " ".join(text.split())
            assert "</" not in text and "\\begin" not in text and "()" not in text and "[]" not in text
        assert not figure.caption.startswith(("Figure", "Fig."))
    empty = [figure.id for figure in real[1] if not figure.caption]
    assert empty == ["eLife.00133-fig7", "eLife.00133-fig8"]  # author response images, <caption><p/></caption>
    assert sum(bool(figure.mentions) for figure in real[1]) >= 640
