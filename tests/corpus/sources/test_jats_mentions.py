from __future__ import annotations

import csv
from pathlib import Path

import pytest
from lxml import etree

from llavamed_cli.corpus.sources.jats import parse_articles
from llavamed_cli.corpus.sources.jats_mentions import find_mentions, numbers_named, referring_sentences


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Figs. 2-4 and 6B", (2, 3, 4, 6)),
        ("Figure 2A–C, 3", (2, 3)),
        ("(Figures 1, 2, and 3D)", (1, 2, 3)),
        ("Figs 1 to 3", (1, 2, 3)),
        ("figures 3a, b and 4", (3, 4)),
        ("Fig. S2 and Supplementary Figure 2", ()),
        ("Figure 9—figure supplement 1", ()),
        ("Fig. 2.1", ()),
        ("Figs. 1-900", (1, 900)),
        ("fig trees, 2 of them", ()),
    ],
)
def test_the_numbers_that_words_name(text: str, numbers: tuple[int, ...]) -> None:
    assert numbers_named(text) == numbers


def mentions(body: str, *ids: str) -> dict[str, tuple[str, ...]]:
    labels: dict[str, str | None] = {identity: f"Figure {n}" for n, identity in enumerate(ids, start=1)}
    return find_mentions(etree.fromstring(f"<article><body>{body}</body></article>"), labels)


def test_one_xref_may_name_several_figures_and_need_no_text() -> None:
    found = mentions(
        '<p>See <xref ref-type="fig" rid="a c">these</xref>. So (<xref ref-type="fig" rid="b"/>) it is.</p>', *"abc"
    )
    assert found == {"a": ("See these.",), "b": ("So it is.",), "c": ("See these.",)}


def test_a_range_that_links_its_ends_mentions_what_lies_between() -> None:
    body = '<p><xref ref-type="fig" rid="a">Figs. 1</xref>–<xref ref-type="fig" rid="c">3</xref> show it.</p>'
    assert set(mentions(body, *"abcd")) == set("abcd")
    assert {name for name, found in mentions(body, *"abcd").items() if found} == set("abc")


def test_captions_lists_and_boxes_are_told_apart() -> None:
    body = (
        '<p>A list. <list><list-item><p>Item <xref ref-type="fig" rid="a">Fig. 1</xref>.</p></list-item></list></p>'
        '<fig id="b"><caption><p>As in <xref ref-type="fig" rid="a">Fig. 1</xref>, but red.</p></caption></fig>'
    )
    assert mentions(body, *"ab") == {"a": ("Item Fig. 1.",), "b": ()}


def test_a_sentence_is_said_once() -> None:
    body = '<p>In <xref ref-type="fig" rid="a">Fig. 1</xref> and <xref ref-type="fig" rid="a">Fig. 1B</xref>.</p>'
    assert mentions(body, "a")["a"] == ("In Fig. 1 and Fig. 1B.",)


def test_no_reference_of_a_real_article_is_lost(shared: Path) -> None:
    """The manifest counts 2,491 `xref ref-type="fig"`; each must end up in exactly one sentence."""
    folder = shared / "data" / "pmc_jats"
    total = 0
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            (article,) = parse_articles(folder / row["file"])
            found = sum(sentence.references for sentence in referring_sentences(article))
            assert found == int(row["fig_xrefs"]), row["file"]
            total += found
    assert total == 2491
