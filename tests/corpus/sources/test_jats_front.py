from __future__ import annotations

import pytest
from lxml import etree

from llavamed_cli.corpus.sources.jats_front import license_of, read_front

NAMESPACES = 'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:ali="http://www.niso.org/schemas/ali/1.0/"'
ZERO = "https://creativecommons.org/publicdomain/zero/1.0/"
BY = "https://creativecommons.org/licenses/by/4.0/"


@pytest.mark.parametrize(
    ("inside", "license"),
    [
        (f'<license xlink:href="{BY}"/>', "CC BY"),
        ('<license license-type="CC BY-NC-ND"><license-p>An open access article.</license-p></license>', "CC BY-NC-ND"),
        (f"<license><ali:license_ref>{BY}</ali:license_ref></license>", "CC BY"),
        (f"<free_to_read/><ali:license_ref>{BY}</ali:license_ref>", "CC BY"),
        ("<license><license-p>under the Creative Commons Attribution License</license-p></license>", "CC BY"),
        (f'<license><license-p>See <ext-link xlink:href="{BY}">here</ext-link>.</license-p></license>', "CC BY"),
        ("<copyright-statement>2005, Creative Commons Attribution License.</copyright-statement>", "CC BY"),
        (
            f'<license xlink:href="{BY}"><p>{ZERO} applies to the data.</p></license>',
            "CC BY",
        ),
        ('<license license-type="open-access"><p>Free to read.</p></license>', None),
        ("", None),
    ],
)
def test_the_licence_is_found_wherever_it_stands(inside: str, license: str | None) -> None:
    permissions = f"<permissions {NAMESPACES}>{inside}</permissions>"
    assert license_of(etree.fromstring(permissions)) == license


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
