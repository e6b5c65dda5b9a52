from __future__ import annotations

import pytest

from llavamed_cli.corpus.screening.licenses import is_borrowed, is_credited, normalise_license


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("http://creativecommons.org/licenses/by/2.0", "CC BY"),
        ("https://creativecommons.org/licenses/by-nc-nd/4.0/", "CC BY-NC-ND"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0"),
        ("http://www.elsevier.com/tdm/userlicense/1.0/", "TDM"),
        ("CC BY", "CC BY"),
        ("CC-BY-NC-SA 4.0", "CC BY-NC-SA"),
        ("ccbyncndlicense", "CC BY-NC-ND"),
        ("CCBY", "CC BY"),
        ("cc0", "CC0"),
        ("the Creative Commons Attribution License, which permits unrestricted use", "CC BY"),
        ("the Creative Commons Attribution Non-Commercial License", "CC BY-NC"),
        ("Creative Commons Attribution-NonCommercial-ShareAlike 4.0", "CC BY-NC-SA"),
        ("Creative Commons Attribution-NonCommercial-NoDerivs License", "CC BY-NC-ND"),
        ("Creative Commons by Attribution (CC-BY) license", "CC BY"),
        ("open-access", None),
        ("All rights reserved.", None),
        ("", None),
    ],
)
def test_a_licence_has_one_name(text: str, name: str | None) -> None:
    assert normalise_license(text) == name


def test_a_waiver_for_data_does_not_make_an_article_free() -> None:
    text = (
        "distributed under the Creative Commons Attribution 4.0 International License. The Creative Commons Public "
        "Domain Dedication waiver (http://creativecommons.org/publicdomain/zero/1.0/) applies to the data"
    )
    assert normalise_license(text) == "CC BY"


@pytest.mark.parametrize(
    ("caption", "borrowed"),
    [
        ("CT of the chest. Reproduced with permission from Elsevier.", True),
        ("Adapted from Smith et al.", True),
        ("Image used with the kind permission of the patient's surgeon.", True),
        ("The kidney adapted to the loss. It was taken from a child.", False),
        ("CT of the chest.", False),
        ("Modified and redrawn from [3].", True),
        ("The alignment (updated from Cao et al).", True),
        ("Taken from Smith and Jones, et al.", True),
        ("Figure from reference 4.", True),
        ("By permission of Oxford University Press.", True),
        ("Image courtesy of Dr. A. Smith.", True),
        ("© 2004 Elsevier", True),
        ("Copyright (2010) American Chemical Society", True),
        ("A cell, (C) 2001 Wiley.", True),
        ("(source: http://commons.wikimedia.org)", True),
        ("Image credit: NASA.", True),
        ("(Illustration: Giovanni Maki)", True),
        ("Photograph published with permission of the patient.", False),
        ("Used with the patient's permission.", False),
        ("Courtesy of the authors.", False),
        ("© 2020 The Authors", False),
        ("Copyright © 2020 by the author", False),
        ("The specimen was taken from a littermate. (C) 2 days later.", False),
        ("Values from Smith et al. were used. Photograph of the left foot; (photomicrograph: HE).", False),
    ],
)
def test_a_borrowed_figure_says_so(caption: str, borrowed: bool) -> None:
    assert is_borrowed(caption) is borrowed


@pytest.mark.parametrize(
    ("line", "credited"),
    [
        ("PHOTOGRAPH: D KESSLER", True),
        ("Source: WHO", True),
        ("Image by A. Lee", True),
        ("Source: authors' own work", False),
        ("CT, computed tomography", False),
        ("", False),
    ],
)
def test_a_credit_line_names_somebody(line: str, credited: bool) -> None:
    assert is_credited(line) is credited
