"""The 135 real articles counted twice: by the reader, and from their source text by expressions that share no code.

`pytest -s tests/corpus/sources/test_jats_counts.py` prints the table.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from lxml import etree

from llavamed_cli.corpus.sources.jats import parse_articles, read_article_file
from llavamed_cli.corpus.sources.jats_front import read_front
from llavamed_cli.corpus.sources.jats_mentions import referring_sentences
from llavamed_cli.records import Fault, Figure

ASIDE = " or ".join(
    f"ancestor::{name}"
    for name in (
        *("fig", "fig-group", "supplementary-material", "media", "caption", "ack", "author-notes", "notes", "fn"),
        *("sub-article", "response"),
    )
)
RUNNING = f"//xref[@ref-type='fig'][not({ASIDE})]"

BY_RANGE = {"PMC509305-pbio-0020243-g002"}
"""Mentioned without a link: it lies inside "Figures 1–3", which links its ends."""
NOT_THE_ARTICLES = {
    "PMC4353709-pone.0118692.g001": "third party",  # "Reproduced from Figs. 1-4 from Ref. [23]"
    "act5010008-actuators-05-00008-f002": "third party",  # "redrawn from", and the four that follow
    "act5010008-actuators-05-00008-f003": "third party",
    "act5010008-actuators-05-00008-f004": "third party",
    "act5010008-actuators-05-00008-f007": "third party",
    "act5010008-actuators-05-00008-f008": "third party",
    "eLife.00240-fig1": "third party",  # <attrib>PHOTOGRAPH: D KESSLER, MAX PLANCK INSTITUTE...
    "journal.pcbi.1004113-pcbi.1004113.g001": "CC BY-SA",  # "source: http://commons.wikimedia.org; work is licensed..."
    "journal.pmed.0020007-pmed-0020007-g001": "third party",  # "(Illustration: Giovanni Maki)", and the next
    "journal.pmed.0030132-pmed-0030132-g002": "third party",
    "journal.pone.0100977-pone-0100977-g009": "third party",  # "updated from Cao et al. [17]"
}
"""Every figure that is not under its article's licence, read by eye."""


@dataclass(frozen=True)
class Article:
    """One article, read in both ways."""

    row: dict[str, str]
    text: str
    tree: etree._Element
    figures: list[Figure]
    faults: list[Fault]
    references: Counter[bool]

    def count(self, pattern: str) -> int:
        """Matches in its source text, comments left out."""
        return len(re.findall(pattern, re.sub("<!--.*?-->", "", self.text, flags=re.S)))

    def xpath(self, expression: str) -> int:
        """Nodes, by an XPath over another parser's tree."""
        return int(self.tree.xpath(f"count({expression})"))


@pytest.fixture(scope="module")
def articles(shared: Path) -> list[Article]:
    folder = shared / "data" / "pmc_jats"
    found = []
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            file, faults = folder / row["file"], list[Fault]()
            figures = list(read_article_file(file, {}, faults.append))
            (article,) = parse_articles(file)
            references: Counter[bool] = Counter()
            for sentence in referring_sentences(article):
                references[sentence.aside or sentence.part is not None] += sentence.references
            tree = etree.parse(str(file), etree.XMLParser(load_dtd=False, no_network=True, recover=True)).getroot()
            found.append(Article(row, file.read_text(encoding="utf-8"), tree, figures, faults, references))
    return found


def test_both_ways_count_the_same(articles: list[Article]) -> None:
    table: list[tuple[str, int, int]] = []

    def compare(what: str, read: list[int], counted: list[int]) -> None:
        assert read == counted, what
        table.append((what, sum(read), sum(counted)))

    def each(expression: str) -> list[int]:
        return [article.xpath(expression) for article in articles]

    figures = [len(article.figures) for article in articles]
    compare("articles", [1 for _ in articles], [article.count(r"<article[\s>]") for article in articles])
    compare("figures", figures, [article.count(r"<fig[\s>]") for article in articles])
    compare("figures, by the manifest", figures, [int(article.row["figs"]) for article in articles])
    labels = [sum(bool(figure.label) for figure in article.figures) for article in articles]
    compare("figures with a label", labels, each("//fig[normalize-space(label)]"))
    captions = [sum(bool(figure.caption) for figure in article.figures) for article in articles]
    compare("figures with a caption", captions, each("//fig[normalize-space(caption)]"))
    references = [sum(article.references.values()) for article in articles]
    linked = [article.count(r'<xref\b[^>]*\bref-type="fig"') for article in articles]
    compare("figure references", references, linked)
    compare("figure references, by the manifest", references, [int(article.row["fig_xrefs"]) for article in articles])
    compare("  of these in running text", [article.references[False] for article in articles], each(RUNNING))
    mentioned = [
        sum(bool(figure.mentions) and figure.id not in BY_RANGE for figure in article.figures) for article in articles
    ]
    by_link = "//fig[not(ancestor::sub-article)][contains({}, concat(' ', @id, ' '))]"
    named = [" ".join(["", *article.tree.xpath(f"{RUNNING}/@rid"), ""]) for article in articles]
    counted = [article.xpath(by_link.format(f"'{names}'")) for article, names in zip(articles, named, strict=True)]
    compare("figures mentioned by a link", mentioned, counted)
    pmcids = [any(figure.source.pmcid for figure in article.figures) for article in articles]
    compare("articles with a PMCID", [int(found) for found in pmcids], [bool(a.row["pmcid"]) for a in articles])
    print(f"\n{'':40}{'read':>8}{'counted':>9}")
    for what, read, count in table:
        print(f"{what:40}{read:>8,}{count:>9,}")
    assert [row[1] for row in table if row[0] in ("figures", "figure references")] == [644, 2491]
    assert not any(article.faults for article in articles)


def test_what_is_mentioned_without_a_link_is_known(articles: list[Article]) -> None:
    for article in articles:
        linked = set(" ".join(article.tree.xpath(f"{RUNNING}/@rid")).split())
        for figure in article.figures:
            key = figure.id.partition("-")[2]
            assert bool(figure.mentions) == (key in linked or figure.id in BY_RANGE), figure.id


def test_mentions_are_sentences_of_the_article(articles: list[Article]) -> None:
    """Letters and digits of each mention stand in this order in the article's text, citations left out."""
    total = 0
    for article in articles:
        for citation in article.tree.xpath("//xref[@ref-type='bibr']"):
            citation.text = "" if not re.search(r"[^\W\d_]", "".join(citation.itertext())) else citation.text
        letters = "".join(filter(str.isalnum, "".join(article.tree.itertext())))
        for figure in article.figures:
            total += len(figure.mentions)
            for mention in figure.mentions:
                opening = "".join(filter(str.isalnum, mention))[:12]
                assert opening in letters, (figure.id, mention)
    print(f"\n{'(figure, sentence) pairs':40}{total:>8,}")
    assert total > 1900


def test_licences_are_those_of_the_manifest_but_for_figures_known_by_eye(articles: list[Article]) -> None:
    tally: Counter[str | None] = Counter()
    for article in articles:
        stated = article.row["licence"].partition(" (")[0].partition(" +")[0]
        assert read_front(parse_articles(Path(article.figures[0].source.file or ""))[0], "x").license == stated
        for figure in article.figures:
            assert figure.source.license == NOT_THE_ARTICLES.get(figure.id, stated), figure.id
            tally[figure.source.license] += 1
            doi = article.row["doi"]
            assert (figure.source.citation or "").endswith(f"doi:{doi}")
    print()
    for license, count in tally.most_common():
        print(f"{f'figures: {license}':40}{count:>8,}")
    assert tally == {"CC BY": 644 - len(NOT_THE_ARTICLES), "third party": 10, "CC BY-SA": 1}
