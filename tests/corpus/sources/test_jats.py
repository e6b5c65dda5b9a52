from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from llavamed_cli.corpus.sources.jats import read_jats
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


def test_a_namespace_and_an_efetch_wrapper_change_nothing(article_folder: Path) -> None:
    file = article_folder / "article.nxml"
    text = file.read_text(encoding="utf-8")
    plain, _ = read(article_folder)
    body = text[text.index("<article ") :].replace("<article ", '<article xmlns="https://jats.nlm.nih.gov/ns/1.3/" ')
    file.write_text(f"<pmc-articleset>{body}</pmc-articleset>", encoding="utf-8")
    wrapped, _ = read(article_folder)
    assert [(f.id, f.caption, f.mentions) for f in wrapped] == [(f.id, f.caption, f.mentions) for f in plain]


@pytest.mark.parametrize(
    "place",
    [
        "<body><sec>{}</sec></body>",
        "<body><p>A text.{}</p></body>",
        "<body><boxed-text>{}</boxed-text></body>",
        "<floats-group>{}</floats-group>",
        "<back><app-group><app>{}</app></app-group></back>",
        "<sub-article><body>{}</body></sub-article>",
    ],
)
def test_a_figure_is_found_wherever_it_stands(place: str, tmp_path: Path) -> None:
    fig = '<fig id="F1"><label>Figure 1</label><caption><p>A lung.</p></caption><graphic xlink:href="g"/></fig>'
    figures, faults = read(write_article(tmp_path / "x", place.format(fig)))
    assert [(figure.id, figure.caption) for figure in figures] == [("a-F1", "A lung.")] and faults == []


def test_of_alternatives_the_one_at_hand_is_taken(tmp_path: Path, draw: Callable[..., Path]) -> None:
    forms = "".join(f'<graphic xlink:href="{name}"/>' for name in ("a.eps", "b", "c.png"))
    thumbnail = '<graphic content-type="thumbnail" xlink:href="t.gif"/>'
    body = f'<fig id="F1">{thumbnail}<alternatives>{forms}</alternatives></fig>'
    draw(tmp_path / "x" / "c.png")
    assert [f.picture.name for f in read(write_article(tmp_path / "x", body))[0]] == ["c.png"]
    draw(tmp_path / "x" / "B.JPG")
    assert [f.picture.name for f in read(write_article(tmp_path / "x", body))[0]] == ["B.JPG"]


def test_a_figure_inside_a_figure_keeps_its_picture(tmp_path: Path) -> None:
    inner = '<fig id="in"><caption><p>Small.</p></caption><graphic xlink:href="b"/></fig>'
    body = f'<body><fig id="out"><caption><p>Large. {inner}</p></caption><graphic xlink:href="a"/></fig></body>'
    figures, _ = read(write_article(tmp_path / "x", body))
    assert [(f.id, f.caption, f.picture.name) for f in figures] == [("a-out", "Large.", "a"), ("a-in", "Small.", "b")]


def test_formulas_and_markup_in_a_caption_are_read_out(tmp_path: Path) -> None:
    caption = (
        '<p>Map of <inline-formula><alternatives><tex-math>\\alpha_2</tex-math><mml:math xmlns:mml="m"><mml:msub>'
        "<mml:mi>α</mml:mi><mml:mn>2</mml:mn></mml:msub></mml:math></alternatives></inline-formula> at "
        "10<sup>−3</sup> in <italic>E. coli</italic> (see <xref ref-type='table'>Table 1</xref>)</p>"
    )
    body = f'<fig id="F1"><caption>{caption}</caption><graphic xlink:href="g"/></fig>'
    figures, _ = read(write_article(tmp_path / "x", body))
    assert figures[0].caption == "Map of α2 at 10^−3 in E. coli (see Table 1)."


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


def test_real_captions_are_clean_text(real: tuple[Path, list[Figure], list[Fault]]) -> None:
    for figure in real[1]:
        for text in (figure.caption, *figure.mentions):
            assert text == " ".join(text.split())
            assert (
                "</" not in text
                and "\\begin" not in text
                and "()" not in text
                and "[]" not in text
                and ".." not in text
            )
        assert not figure.caption.startswith(("Figure", "Fig."))
    empty = [figure.id for figure in real[1] if not figure.caption]
    assert empty == ["eLife.00133-fig7", "eLife.00133-fig8"]  # author response images, <caption><p/></caption>
    assert sum(bool(figure.mentions) for figure in real[1]) >= 640
