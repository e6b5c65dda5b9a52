from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.screening.modality import find_modality
from llavamed_cli.corpus.sources.jats import read_jats
from llavamed_cli.corpus.teacher.rules import teach
from llavamed_cli.records import Figure, Source


def taught(caption: str, mentions: tuple[str, ...], domain: Domain) -> tuple[tuple[str, str], ...]:
    figure = Figure(id="f", picture=Path("x"), caption=caption, mentions=mentions, source=Source(kind="pairs"))
    return teach(figure, find_modality(caption, mentions, domain), domain, random.Random(0))


def test_a_conversation_is_built_from_the_text(domain: Domain) -> None:
    caption = (
        "(A) Axial CT showing a nodule in the left lobe. (B) The wall is thickened. A small effusion is seen. "
        "Data are mean of n = 5. See the legend of Figure 1."
    )
    exchanges = taught(caption, ("The mass had an irregular border (Fig. 1).", "We thank the authors."), domain)
    assert [answer for _, answer in exchanges] == [
        "This is a CT scan.",
        "Axial CT showing a nodule in the left lobe. The wall is thickened.",
        "A small effusion is seen.",
        "The mass had an irregular border.",
    ]
    assert exchanges[0][0] in domain.questions["modality"]


def test_an_unclear_modality_is_not_asked(domain: Domain) -> None:
    exchanges = taught("CT (A) and MRI (B) of a large mass in the liver.", (), domain)
    assert len(exchanges) == 1 and exchanges[0][0] in domain.questions["show"]


@pytest.mark.parametrize(
    "caption", ["LA, left atrium; RA, right atrium; LV, left ventricle.", "Survival of the cohort.", "Left lung (arrow"]
)
def test_where_nothing_visible_is_said_nothing_is_taught(caption: str, domain: Domain) -> None:
    assert taught(caption, (), domain) == ()


def test_answers_to_real_figures_are_grounded_and_never_speak_of_the_paper(shared: Path, domain: Domain) -> None:
    """Every word and number of an answer stands in the figure's own text, apart from the modality's name."""
    checked = 0
    for figure in read_jats(shared / "data" / "pmc_jats", None, lambda fault: None):
        known = set(re.findall(r"\w+", " ".join((figure.caption, *figure.mentions, "The image")).lower()))
        modality = find_modality(figure.caption, figure.mentions, domain)
        for question, answer in teach(figure, modality, domain, random.Random(figure.id)):
            if question in domain.questions["modality"]:
                continue
            checked += 1
            assert set(re.findall(r"\w+", answer.lower())) <= known, figure.id
            assert not re.search(r"\b(caption|legend|figure|fig|study|et al|we)\b|p\s?[<=]\s?0", answer, re.I), (
                figure.id
            )
    assert checked > 500
