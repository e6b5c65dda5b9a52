from __future__ import annotations

import pytest
from lxml import etree

from llavamed_cli.corpus.sources.jats_rights import figure_license, license_of

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


FRONT = (
    "<front><article-meta><permissions><copyright-statement>© 2020 Lee and Smith</copyright-statement>"
    "</permissions></article-meta></front>"
)


def license_in(inside: str, caption: str = "CT of the chest.", group: str = "") -> str | None:
    """The licence of a figure that holds `inside`, in a CC BY article of Lee and Smith."""
    body = f"<body><fig-group>{group}<fig>{inside}</fig></fig-group></body>"
    article = etree.fromstring(f"<article {NAMESPACES}>{FRONT}{body}</article>")
    figure = next(article.iter("fig"))
    return figure_license(figure, caption, "CC BY", article)


@pytest.mark.parametrize(
    ("permissions", "license"),
    [
        (f'<license xlink:href="{BY.replace("by/", "by-nc/")}"/>', "CC BY-NC"),
        ("<copyright-statement>Elsevier 2020</copyright-statement>", "third party"),
        ("<copyright-holder>American Chemical Society</copyright-holder>", "third party"),
        ("<copyright-year>2004</copyright-year>", "third party"),
        ("", "third party"),
        ("<license><license-p>Reproduced with permission from Wiley.</license-p></license>", "third party"),
        ("<copyright-statement>Copyright © 2020 The Author(s)</copyright-statement>", "CC BY"),
        ("<copyright-holder>the authors</copyright-holder>", "CC BY"),
        ("<copyright-statement>© 2020, Lee and Smith</copyright-statement>", "CC BY"),
        ("<copyright-statement>© 2020, Smith</copyright-statement>", "third party"),
        ("<copyright-holder>Authors</copyright-holder><license><p>Adapted from Lee.</p></license>", "third party"),
    ],
)
def test_a_figures_own_permissions_override(permissions: str, license: str) -> None:
    inside = f"<permissions>{permissions}</permissions>"
    assert license_in(inside) == license
    assert license_in("", group=inside) == license


@pytest.mark.parametrize(
    ("attrib", "license"),
    [
        ("Adapted with permission from Smith.", "third party"),
        ("PHOTOGRAPH: D KESSLER, MAX PLANCK INSTITUTE", "third party"),
        ("Image courtesy of NASA", "third party"),
        ("© 2004 Elsevier", "third party"),
        ("Source: Wikimedia, CC BY-SA 3.0", "CC BY-SA"),
        ("Source: the authors", "CC BY"),
        ("Abbreviations: CT, computed tomography", "CC BY"),
    ],
)
def test_a_credit_line_overrides(attrib: str, license: str) -> None:
    inside = f"<attrib>{attrib}</attrib>"
    assert license_in(inside) == license
    assert license_in("", group=inside) == license


def test_a_borrowed_figure_under_a_named_licence_has_that_licence() -> None:
    assert license_in("", "A cell. Adapted from Smith et al., licensed under CC BY-NC 4.0.") == "CC BY-NC"
    assert license_in("", "A cell. Adapted from Smith et al.") == "third party"
    assert license_in("", "A cell.") == "CC BY"
