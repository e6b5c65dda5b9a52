from __future__ import annotations

import pytest
from lxml import etree

from llavamed_cli.corpus.sources.jats_front import read_front


@pytest.mark.parametrize(
    ("ids", "stem", "name", "pmcid", "version"),
    [
        ('<article-id pub-id-type="pmcid-ver">PMC12.3</article-id>', "x", "PMC12", "PMC12", 3),
        ('<article-id pub-id-type="pmc">12</article-id>', "x", "PMC12", "PMC12", None),
        ('<article-id pub-id-type="doi">10.1/a b/c</article-id>', "x", "a_b_c", None, None),
        ('<article-id pub-id-type="doi">10.1/a</article-id>', "PMC9.2", "PMC9", "PMC9", 2),
        ("", "my article", "my_article", None, None),
    ],
)
def test_an_article_has_a_name(ids: str, stem: str, name: str, pmcid: str | None, version: int | None) -> None:
    article = etree.fromstring(f"<article><front><article-meta>{ids}</article-meta></front></article>")
    front = read_front(article, stem)
    assert (front.name, front.pmcid, front.version) == (name, pmcid, version)


def test_an_article_that_says_nothing_is_still_read() -> None:
    front = read_front(etree.fromstring("<article/>"), "x")
    assert (front.citation, front.license) == (None, None)
