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
        ("Fig. 1, 59 patients were treated", (1,)),
        ("Figure 1 and 3 patients died", (1,)),
        ("Fig. 1, 3B and 4 show", (1, 3)),
        ("(Figure 1, 2 and 3)", (1, 2, 3)),
        ("Figs. 1, 3 show", (1, 3)),
        ("compare Figure 4F to Figure 6A", (4, 6)),
        ("Figure 4 through 6", (4, 5, 6)),
        ("Fig. 3 of Smith et al.", ()),
        ("Figure 2 in the reference", ()),
        ("as in Fig. 2 of, but", ()),
        ("additional figure 3; so Figure 4 in Leeds", (4,)),
    ],
)
def test_the_numbers_that_words_name(text: str, numbers: tuple[int, ...]) -> None:
    assert numbers_named(text) == numbers


def mentions(body: str, *ids: str) -> dict[str, tuple[str, ...]]:
    """The mentions of figures that bear these ids and are labelled in their order."""
    figures = "".join(f'<fig id="{identity}"/>' for identity in ids if f' id="{identity}"' not in body)
    article = etree.fromstring(f"<article><body>{body}{figures}</body></article>")
    by_id = {figure.get("id"): figure for figure in article.iter("fig")}
    labels: dict[str, str | None] = {identity: f"Figure {n}" for n, identity in enumerate(ids, start=1)}
    return find_mentions(article, {identity: by_id[identity] for identity in ids}, labels)


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


@pytest.mark.parametrize(
    "aside",
    [
        "<fig-group><caption><p>{}</p></caption></fig-group>",
        "<supplementary-material><caption><p>{}</p></caption></supplementary-material>",
        "<table-wrap><caption><title>{}</title></caption></table-wrap>",
        "<media><caption><p>{}</p></caption></media>",
        "<ack><p>{}</p></ack>",
        "<notes notes-type='author-contribution'><p>{}</p></notes>",
        "<fn-group><fn><p>{}</p></fn></fn-group>",
        "<sub-article><body><p>{}</p></body></sub-article>",
        "<response><body><p>{}</p></body></response>",
    ],
)
def test_what_is_not_the_articles_own_account_is_no_mention(aside: str) -> None:
    linked = 'We drew <xref ref-type="fig" rid="a">Figure 1</xref>.'
    for text in (linked, "We drew Figure 1."):
        assert mentions(aside.format(text), "a") == {"a": ()}
        assert mentions(f"<p>{text}</p>", "a") == {"a": ("We drew Figure 1.",)}


def test_a_letter_speaks_of_its_own_figures() -> None:
    letter = '<p>It is (<xref ref-type="fig" rid="b">Response image</xref>) and Figure 1.</p><fig id="b"/>'
    body = f'<p>See Figure 1.</p><fig id="a"/><sub-article><body>{letter}</body></sub-article>'
    assert mentions(body, *"ab") == {"a": ("See Figure 1.",), "b": ("It is (Response image) and Figure 1.",)}


def test_boxes_tables_titles_and_appendices_are_running_text() -> None:
    body = (
        '<boxed-text><p>Box: <xref ref-type="fig" rid="a">Fig. 1</xref>.</p></boxed-text>'
        '<sec><title>The model (<xref ref-type="fig" rid="a">Fig. 1</xref>)</title></sec>'
        '<table><tr><td>Left lung, <xref ref-type="fig" rid="a">Fig. 1</xref></td></tr></table>'
        '<app><p>App: <xref ref-type="fig" rid="a">Fig. 1</xref>.</p></app>'
    )
    found = ("Box: Fig. 1.", "The model (Fig. 1)", "Left lung, Fig. 1", "App: Fig. 1.")
    assert mentions(body, "a") == {"a": found}


def test_words_split_by_markup_are_still_a_mention() -> None:
    body = "<p>See <bold>F<sc>ig</sc></bold>. <italic>2</italic>A and <bold>FIGURE 1</bold>.</p>"
    assert set(filter(None, mentions(body, *"ab").values())) == {("See Fig. 2A and FIGURE 1.",)}


def test_a_supplement_is_another_figure() -> None:
    body = '<p>In Figure 1—figure supplement 1 (<xref ref-type="fig" rid="a1">Figure 1—figure supplement 1</xref>).</p>'
    found = mentions(body, *("a", "a1"))
    assert found["a"] == () and len(found["a1"]) == 1


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
