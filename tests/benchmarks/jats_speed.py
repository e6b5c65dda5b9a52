"""JATS to figures, beside bare lxml and pubmed_parser:  python tests/benchmarks/jats_speed.py [FOLDER]

One thread. Each side reads the same bytes of every article in FOLDER (../shared/data/pmc_jats) from memory, or from its
path where it takes nothing else:

  llavamed       figures with caption, label, mentions, licence and citation
  bare lxml      lxml.etree.parse and a walk over the figures that takes nothing from them
  pubmed_parser  parse_pubmed_caption and parse_pubmed_paragraph; left out where it is not installed

Sides alternate; medians of 5 runs after one that warms up. Processor time, so that a busy neighbour counts for little.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lxml import etree

from llavamed_cli.corpus.sources.article_folders import XML_ENDINGS
from llavamed_cli.corpus.sources.jats import read_article_file

RUNS = 5
FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "pmc_jats"


def llavamed(file: Path) -> int:
    """How many figures an article has."""
    return sum(1 for _ in read_article_file(file, {}, lambda fault: None))


def bare_lxml(file: Path) -> int:
    """The same, by the least that can be done."""
    return sum(1 for _ in etree.parse(io.BytesIO(file.read_bytes())).iter("{*}fig"))


def pubmed_parser_side() -> Callable[[Path], int] | None:
    """pubmed_parser on the same file; None if it is not installed."""
    try:
        from pubmed_parser import parse_pubmed_caption, parse_pubmed_paragraph
    except ImportError:
        return None

    def read(file: Path) -> int:
        parse_pubmed_paragraph(str(file), all_paragraph=True)
        return len(parse_pubmed_caption(str(file)) or ())

    return read


def main() -> None:
    """Print articles a second for each side, and the ratios."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    files = sorted(file for file in folder.iterdir() if file.suffix in XML_ENDINGS)
    sides: dict[str, Callable[[Path], int]] = {"llavamed": llavamed, "bare lxml": bare_lxml}
    if (side := pubmed_parser_side()) is None:
        print("pubmed_parser is not installed (pip install pubmed_parser): its side is left out")
    else:
        sides["pubmed_parser"] = side
    times: dict[str, list[float]] = {name: [] for name in sides}
    figures = {}
    for run in range(RUNS + 1):
        for name, read in sides.items():
            began = time.process_time()
            figures[name] = sum(map(read, files))
            if run:
                times[name].append(time.process_time() - began)
    medians = {name: statistics.median(measured) for name, measured in times.items()}
    for name, median in medians.items():
        print(f"{name:15}{len(files) / median:8.0f} articles/s, {figures[name]} figures of {len(files)} articles")
    print(f"llavamed has {medians['bare lxml'] / medians['llavamed']:.2f} of the speed of bare lxml")
    if side is not None:
        print(f"llavamed is {medians['pubmed_parser'] / medians['llavamed']:.1f} times as fast as pubmed_parser")


if __name__ == "__main__":
    main()
