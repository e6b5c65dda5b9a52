from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.screening.captions import find_chart, score_caption, word_count
from llavamed_cli.corpus.sources.jats import read_jats

GOOD = "Axial CT of the chest showing a round nodule in the left upper lobe with an irregular border (arrow)."
WORSE = {
    "statistics": GOOD + " Data are mean and standard deviation, n = 5, P < 0.05, Student's t-test, error bars SEM.",
    "chart": "Bar graph of the nodule's growth in the left upper lobe, plotted as a survival curve beside the chest.",
    "panels": "(A) Axial CT of the left lung. (B) Coronal CT. (C) PET of it. (D) Histology. (E) Stain of tissue.",
    "borrowed": GOOD + " Reproduced with permission from Elsevier.",
    "length": "Left lung.",
}


@pytest.mark.parametrize("part", WORSE)
def test_each_part_lowers_the_score(part: str, domain: Domain) -> None:
    good, worse = score_caption(GOOD, domain), score_caption(WORSE[part], domain)
    assert worse.parts[part] < good.parts[part]
    assert worse.score < good.score


def test_the_score_is_the_sum_of_its_parts(domain: Domain) -> None:
    for caption in (GOOD, *WORSE.values(), ""):
        quality = score_caption(caption, domain)
        assert 0 <= quality.score <= 1
        assert quality.score == pytest.approx(min(max(sum(quality.parts.values()), 0), 1), abs=1e-9)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("Forest plot of CT studies.", ("Forest plot",)),
        ("Forest plots of the included studies comparing the total blood loss.", ("Forest plots",)),
        ("A timeline of the treatment. CT, computed tomography; RT, radiation therapy.", ("timeline",)),
        ("Body weight of the mice (n = 12). Error bars are standard deviations.", ("n =",)),
        (
            "(A) Western blot of lung lysates. (B) Quantification, mean and SD. (C) H&E section of the lung.",
            ("Western blot",),
        ),
        ("(A) H&E section of the lung. (B) H&E section of the liver. (C) Quantification, mean and SD.", ()),
        ("Axial CT of the chest with a nodule.", ()),
        ("An itching rash on the forearm.", ()),
        ("", ()),
    ],
)
def test_a_chart_is_told_where_its_words_prevail(caption: str, words: tuple[str, ...], domain: Domain) -> None:
    found = find_chart(caption, domain)
    assert bool(found) == bool(words)
    assert set(words) <= set(found)


def test_a_hyphenated_word_is_one() -> None:
    assert word_count("T2-weighted MRI, patient's head: 3 cm") == 6


def test_a_hostile_caption_is_scored_in_time(domain: Domain) -> None:
    started = time.perf_counter()
    for unit in ("a,", "x-", "(A", "A. ", "A and ", "CT, "):
        score_caption(unit * 5_000, domain)
        find_chart(unit * 5_000, domain)
    assert time.perf_counter() - started < 5


def test_captions_with_an_imaging_method_score_above_the_others(shared: Path, domain: Domain) -> None:
    """The manifest counts, per article, captions that name an imaging or histology method: these score higher."""
    folder = shared / "data" / "pmc_jats"
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if int(row["figs"])]
    scores: dict[bool, list[float]] = {True: [], False: []}
    for row in rows[:60]:
        share = int(row["imaging_captions"]) / int(row["figs"])
        if share in (0, 1):
            figures = read_jats(folder / row["file"], None, lambda fault: None)
            scores[share == 1].extend(score_caption(figure.caption, domain).score for figure in figures)
    means = {imaging: sum(values) / len(values) for imaging, values in scores.items()}
    assert means[True] > means[False] + 0.1
