"""What a SOURCE names: told by its prefix, its ending, or what a folder holds. Nothing is read yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llavamed_cli.benchmarks.open_benchmark import FILES, BenchmarkName, parse_benchmark
from llavamed_cli.corpus.sources.article_folders import XML_ENDINGS, holds_articles
from llavamed_cli.corpus.sources.pairs import DELIMITERS, JSONL_ENDINGS, holds_pairs
from llavamed_cli.corpus.sources.pmc_articles import PmcArticles, locate_pmc
from llavamed_cli.corpus.sources.pmc_package import is_package
from llavamed_cli.corpus.sources.shards import ENDINGS as SHARD_ENDINGS
from llavamed_cli.corpus.sources.shards import holds_shards
from llavamed_cli.corpus.sources.tables import ENDINGS as TABLE_ENDINGS
from llavamed_cli.corpus.sources.tables import holds_tables
from llavamed_cli.errors import UsageError
from llavamed_cli.hub_data import HubName, parse_hub_name

Kind = Literal["pairs", "table", "shards", "articles", "pmc", "hub", "questions", "phantoms"]

KNOWN = (
    "pmc:ID, pmc:FILE, pmc:query:TEXT, pmc:inventory, ARTICLE.xml, PMCnnnn.tar.gz, a folder of articles, FILE.jsonl, "
    "FILE.csv, FILE.tsv, FILE.parquet, SHARD.tar, a folder of pictures with .txt files, hub:OWNER/NAME, phantoms:N, "
    "and a benchmark's training questions: vqa-rad:FILE, slake:DIR, slake-en:DIR, slake-zh:DIR, path-vqa:DIR, "
    "llava-med-vqa:FILE, questions:FILE, questions:hub:OWNER/NAME"
)
BENCHMARKS = (*FILES, "questions")
HINT = f"Sources are: {KNOWN}."


@dataclass(frozen=True, kw_only=True)
class Located:
    """One source.

    path: its file or folder; count: how many phantoms; pmc: which articles of PMC's cloud; hub: which data set;
    questions: which benchmark's training split.
    """

    text: str
    kind: Kind
    path: Path | None = None
    count: int = 0
    pmc: PmcArticles | None = None
    hub: HubName | None = None
    questions: BenchmarkName | None = None

    @property
    def place(self) -> Path:
        """Its path. Phantoms, PMC's cloud and the hub have none."""
        assert self.path is not None
        return self.path


def locate(text: str) -> Located:
    """Tell what `text` names. Raises UsageError if that is nothing known, or nothing there."""
    prefix, colon, rest = text.partition(":")
    if colon and not Path(text).exists():
        if prefix == "phantoms":
            return Located(text=text, kind="phantoms", count=_count(rest, text))
        if prefix == "pmc":
            articles = locate_pmc(text)
            return Located(text=text, kind="pmc", path=articles.path, pmc=articles)
        if prefix == "hub":
            name = parse_hub_name(rest)
            return Located(text=text, kind="hub", path=name.folder, hub=name)
        if prefix in BENCHMARKS:
            questions = parse_benchmark(text, "train")
            return Located(text=text, kind="questions", path=questions.place, questions=questions)
        if "/" not in prefix and len(prefix) > 1:  # one letter is a drive
            raise UsageError(f"no source is named {prefix!r}", where=text, hint=HINT)
    return _located_path(text)


def _located_path(text: str) -> Located:
    path = Path(text)
    if path.is_dir():
        return Located(text=text, kind=_folder_kind(path), path=path)
    if not path.exists():
        raise UsageError("no such file or folder", where=text, hint=HINT)
    ending = path.suffix.lower()
    if ending in JSONL_ENDINGS or ending in DELIMITERS:
        return Located(text=text, kind="pairs", path=path)
    if ending in TABLE_ENDINGS:
        return Located(text=text, kind="table", path=path)
    if ending in SHARD_ENDINGS:
        return Located(text=text, kind="shards", path=path)
    if ending in XML_ENDINGS or is_package(path):
        return Located(text=text, kind="articles", path=path)
    raise UsageError(f"files that end in {ending or 'nothing'} are no source", where=text, hint=HINT)


def _folder_kind(folder: Path) -> Kind:
    if holds_articles(folder) or any(is_package(file) for file in folder.iterdir()):
        return "articles"
    if holds_pairs(folder):
        return "pairs"
    if holds_tables(folder):
        return "table"
    if holds_shards(folder):
        return "shards"
    raise UsageError(
        "this folder holds no articles (.xml, .nxml, .tar.gz), no pictures with .txt files, no .parquet and no .tar",
        where=str(folder),
        hint=HINT,
    )


def _count(rest: str, text: str) -> int:
    if rest.isascii() and rest.isdigit() and int(rest) > 0:
        return int(rest)
    raise UsageError("expected a number of phantoms, e.g. phantoms:400", where=text)
