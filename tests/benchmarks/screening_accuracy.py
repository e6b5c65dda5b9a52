"""How well screening reads captions, against hand labels:  python tests/benchmarks/screening_accuracy.py ../shared

Modality, panels and charts of real figures (tests/corpus/labels/README.md says how they were labelled), by part. The
rules were written with `dev` and `tuning` in view; `held_out` is for measuring alone. `--misses` lists what was wrong,
never of held_out.

Modality: a figure may show several. What is found is a hit if it is one of those labelled; a figure labelled "none" has
no modality to be found. Over figures: true positive, a hit; false positive, a modality that is not labelled; false
negative, a labelled figure without a hit, which counts for its main modality. "none" found rightly is no true positive:
micro-F1 is of imaging alone. Accuracy, beside it, counts it. Panels: two or more, against fewer. Charts: as labelled.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llavamed_cli.corpus.domain import Domain, load_domain
from llavamed_cli.corpus.screening.captions import find_chart
from llavamed_cli.corpus.screening.modality import find_modality
from llavamed_cli.corpus.screening.panels import find_panels
from llavamed_cli.corpus.sources.jats import read_jats
from llavamed_cli.records import Figure

LABELS = Path(__file__).resolve().parents[1] / "corpus" / "labels" / "modality_and_panels.jsonl"
NONE = "none"
PARTS = ("dev", "tuning", "held_out")
IN_VIEW = ("dev", "tuning")


@dataclass(frozen=True)
class Label:
    """What a careful reader says a figure shows."""

    article: str
    figure: str
    part: str
    modality: list[str]
    panels: int
    chart: bool


@dataclass(frozen=True)
class Reading:
    """A labelled figure, and what screening says of it."""

    label: Label
    caption: str
    modality: str
    panels: int
    chart: bool


def read_labels(part: str) -> Iterator[Label]:
    """The labels of one part."""
    for line in LABELS.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["part"] == part:
            yield Label(**{name: record[name] for name in Label.__dataclass_fields__})


def read_figures(labels: Iterable[Label], articles: Path, domain: Domain) -> Iterator[Reading]:
    """Screen the figures that are labelled."""
    files = {file.stem: file for file in articles.iterdir()}
    known: dict[str, dict[str, Figure]] = {}
    for label in labels:
        if label.article not in known:
            figures = read_jats(files[label.article], None, lambda fault: None)
            known[label.article] = {figure.id: figure for figure in figures}
        figure = known[label.article][f"{label.article}-{label.figure}"]
        found = find_modality(figure.caption, figure.mentions, domain, article=figure.source.citation)
        yield Reading(
            label=label,
            caption=figure.caption,
            modality=found.name if found else NONE,
            panels=len(find_panels(figure.caption).labels),
            chart=bool(find_chart(figure.caption, domain)),
        )


def scores(true: int, false: int, missed: int) -> str:
    """Precision, recall and F1, in one line."""
    precision, recall = (true / (true + other) if true + other else 0.0 for other in (false, missed))
    f1 = 2 * true / (2 * true + false + missed) if true else 0.0
    counts = f"({true} right, {false} false, {missed} missed)"
    return f"precision {precision:.3f}  recall {recall:.3f}  F1 {f1:.3f}   {counts}"


def print_modalities(readings: list[Reading]) -> None:
    """Per class, then over all."""
    true, false, missed = Counter[str](), Counter[str](), Counter[str]()
    right = 0
    for reading in readings:
        labelled = reading.label.modality
        if reading.modality in labelled:
            right += 1
            true[reading.modality] += 1
            continue
        false[reading.modality] += 1
        missed[labelled[0]] += 1
    for name in sorted({*true, *false, *missed} - {NONE}):
        print(f"  {name:16}{scores(true[name], false[name], missed[name])}")
    totals = [sum(counts[name] for name in counts if name != NONE) for counts in (true, false, missed)]
    print(f"  {'micro':16}{scores(*totals)}")
    print(f"  {'accuracy':16}{right / len(readings):.3f} of {len(readings)} figures, those of no modality among them")


def print_yes_no(name: str, pairs: list[tuple[bool, bool]]) -> None:
    """Of pairs (found, labelled)."""
    counts = Counter(pairs)
    print(f"  {name:16}{scores(counts[True, True], counts[True, False], counts[False, True])}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("shared", type=Path, help="the folder that holds data/pmc_jats")
    parser.add_argument("--part", choices=PARTS, action="append", help="all if not given")
    parser.add_argument("--misses", action="store_true", help="list what was wrong, of dev and tuning")
    asked = parser.parse_args()
    domain = load_domain("biomedical")
    for part in asked.part or PARTS:
        readings = list(read_figures(read_labels(part), asked.shared / "data" / "pmc_jats", domain))
        print(f"{part}: {len(readings)} figures")
        print_modalities(readings)
        print_yes_no("panels", [(reading.panels > 1, reading.label.panels > 1) for reading in readings])
        several = [reading for reading in readings if reading.label.panels > 1]
        exact = sum(reading.panels == reading.label.panels for reading in several)
        print(f"  {'their number':16}right in {exact} of {len(several)} figures of several panels")
        print_yes_no("charts", [(reading.chart, reading.label.chart) for reading in readings])
        for reading in readings if asked.misses and part in IN_VIEW else []:
            label = reading.label
            if reading.modality not in label.modality or reading.chart != label.chart:
                found = f"{reading.modality}, chart {reading.chart}"
                print(f"    {label.article}-{label.figure}: {label.modality}, chart {label.chart}; found {found}")
                print(f"      {reading.caption[:160]}")


if __name__ == "__main__":
    main()
