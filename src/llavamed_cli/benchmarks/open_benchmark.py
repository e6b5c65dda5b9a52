"""From what was typed, NAME:PATH, to a benchmark's questions and to the answers of its training split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from llavamed_cli.benchmarks.jsonl import jsonl_answers, read_jsonl_benchmark
from llavamed_cli.benchmarks.reading import BenchmarkRead, KnownAnswer, Split
from llavamed_cli.benchmarks.vqa_rad import read_vqa_rad, vqa_rad_answers
from llavamed_cli.errors import UsageError
from llavamed_cli.files import require_file

FORMS = "vqa-rad:FILE.json, phantoms:N or FILE.jsonl"
NAMES = ("vqa-rad", "phantoms")


@dataclass(frozen=True, kw_only=True)
class BenchmarkName:
    """A benchmark as typed. file: where its questions are; count: how many phantoms (0 for a file)."""

    text: str
    kind: Literal["vqa-rad", "phantoms", "jsonl"]
    file: Path | None = None
    count: int = 0

    @property
    def title(self) -> str:
        """A short name for tables and folders: "vqa-rad", "phantoms", or the file's name."""
        return re.sub(r"[^\w.-]+", "-", self.file.stem) if self.kind == "jsonl" and self.file else self.kind


def parse_benchmark(text: str) -> BenchmarkName:
    """Read NAME:PATH. Raises UsageError if no benchmark is called so, or its file is absent."""
    name, colon, rest = text.partition(":")
    if name == "phantoms":
        if not rest.isdecimal() or int(rest) < 1:
            raise UsageError(f"expected phantoms:N with N pictures, found {text!r}")
        return BenchmarkName(text=text, kind="phantoms", count=int(rest))
    if name == "vqa-rad":
        if not rest:
            raise UsageError("expected vqa-rad:FILE, the published JSON")
        return BenchmarkName(text=text, kind="vqa-rad", file=require_file(Path(rest), "VQA-RAD file"))
    if Path(text).suffix.lower() == ".jsonl":
        return BenchmarkName(text=text, kind="jsonl", file=require_file(Path(text), "benchmark"))
    near = get_close_matches(name, NAMES, n=1)
    meant = f"Did you mean {near[0]}:? " if near and colon else ""
    raise UsageError(f"no benchmark is called {text!r}", hint=f"{meant}Expected {FORMS}.")


def picture_folder(name: BenchmarkName, images: Path | None) -> Path:
    """Where a file's pictures are: `images` if given, else `images/` beside the file, else beside the file."""
    if images is not None:
        return images
    if name.file is None:
        raise ValueError(f"{name.text} is drawn, and has no folder of pictures")
    beside = name.file.parent / "images"
    return beside if beside.is_dir() else name.file.parent


def read_benchmark(name: BenchmarkName, *, pictures: Path, split: Split, seed: int) -> BenchmarkRead:
    """Read a benchmark's questions.

    Args:
        pictures: where its pictures are, or where phantoms are drawn.
        seed: of the phantoms.

    Raises:
        UsageError, DataError: as the readers say.
    """
    if name.file is None:
        from llavamed_cli.benchmarks.phantom_questions import read_phantoms

        return read_phantoms(name.count, pictures, split, seed)
    if name.kind == "vqa-rad":
        return read_vqa_rad(name.file, pictures, split)
    return read_jsonl_benchmark(name.file, pictures)


def training_answers(name: BenchmarkName, *, train: Path | None, seed: int) -> tuple[KnownAnswer, ...]:
    """The training split's answers; empty where neither the benchmark nor `train`, a file of its form, has them."""
    if name.file is None:
        from llavamed_cli.benchmarks.phantom_questions import phantom_answers

        return phantom_answers(name.count, seed)
    if name.kind == "vqa-rad":
        return vqa_rad_answers(train or name.file, is_train=train is not None)
    return jsonl_answers(train) if train else ()
