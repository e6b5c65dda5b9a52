from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from llavamed_cli.corpus.candidates import Candidate, candidate_from_json
from llavamed_cli.corpus.screening.captions import CaptionQuality
from llavamed_cli.corpus.screening.modality import ModalityFound
from llavamed_cli.corpus.selection import draw_balanced, is_held_out
from llavamed_cli.records import Figure, Source

modalities = st.lists(st.sampled_from(["CT", "MRI", "CXR", None]), max_size=60)


@settings(deadline=None)
@given(modalities, st.integers(1, 70), st.integers(0, 5))
def test_a_draw_is_as_even_as_the_figures_allow(told: list[str | None], limit: int, seed: int) -> None:
    named = [(str(number), modality) for number, modality in enumerate(told)]
    drawn = draw_balanced(named, limit, seed)
    there = Counter(modality for modality in told if modality)
    got = Counter(modality for key, modality in named if key in drawn)
    assert len(drawn) == min(limit, there.total()) and None not in got
    for (
        modality,
        count,
    ) in there.items():  # with figures left, it has its share, but for one turn
        if got[modality] < count:
            assert got[modality] >= max(got.values()) - 1


def test_a_lot_does_not_depend_on_the_order() -> None:
    named = [(str(number), "CT") for number in range(100)]
    assert draw_balanced(named, 10, 3) == draw_balanced(reversed(named), 10, 3) != draw_balanced(named, 10, 4)


def candidate(number: int, pmcid: str | None = None, kind: str = "jats", file: str | None = None) -> Candidate:
    figure = Figure(
        id=f"f{number}",
        picture=Path("p.png"),
        caption="A CT.",
        source=Source(kind=kind, pmcid=pmcid, file=file),
        label="Figure 1",
        mentions=("See Figure 1.",),
    )
    return Candidate(
        figure=figure, image="p.png", sha256=f"{number:064d}", quality=CaptionQuality(0.5, {"length": 0.5})
    )


def test_all_figures_of_an_article_are_on_one_side() -> None:
    for article in range(30):
        sides = {is_held_out(candidate(n, pmcid=f"PMC{article}"), 0.5, 0) for n in range(5)}
        assert len(sides) == 1
        files = {is_held_out(candidate(n, file=f"{article}.xml"), 0.5, 0) for n in range(5)}
        assert len(files) == 1


def test_the_share_is_held_to() -> None:
    held = sum(is_held_out(candidate(n, kind="pairs", file="all.jsonl"), 0.2, 1) for n in range(3000))
    assert 0.17 < held / 3000 < 0.23
    assert not any(is_held_out(candidate(n), 0.0, 1) for n in range(100))


def test_a_candidate_survives_the_spool() -> None:
    plain = candidate(1, pmcid="PMC1")
    told = replace(plain, modality=ModalityFound("CT", ("CT",), True), panels=2, similarity=0.25)
    for item in (plain, told):
        assert candidate_from_json(item.to_json()) == item
