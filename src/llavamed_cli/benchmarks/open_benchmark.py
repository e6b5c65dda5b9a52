"""From what was typed, NAME:PATH, to a benchmark's questions and to the answers of its training split.

The same names are sources of build-data and benchmarks of eval. Of a folder, the file of the wanted split is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from llavamed_cli.benchmarks import path_vqa, slake
from llavamed_cli.benchmarks.fields import parse_fields
from llavamed_cli.benchmarks.hub import hub_answers, read_hub
from llavamed_cli.benchmarks.jsonl import (
    jsonl_answers,
    own_training_answers,
    own_training_file,
    read_jsonl_benchmark,
)
from llavamed_cli.benchmarks.llava_med_chat import read_llava_med_chat
from llavamed_cli.benchmarks.llava_med_vqa import llava_med_vqa_answers, read_llava_med_vqa
from llavamed_cli.benchmarks.reading import BenchmarkRead, KnownAnswer, Split, answers_of
from llavamed_cli.benchmarks.record_files import ENDINGS, is_pickle, refuse_pickle
from llavamed_cli.benchmarks.split_files import find_part, holds_part, part_of, sibling, simplest
from llavamed_cli.benchmarks.tables import ENDINGS as TABLES
from llavamed_cli.benchmarks.tables import read_tables
from llavamed_cli.benchmarks.vqa_rad import marks_test, read_vqa_rad, vqa_rad_answers
from llavamed_cli.errors import UsageError
from llavamed_cli.files import require_file
from llavamed_cli.hub_data import HubName, parse_hub_name

Kind = Literal[
    "vqa-rad",
    "slake",
    "slake-en",
    "slake-zh",
    "path-vqa",
    "llava-med-vqa",
    "llava-med-chat",
    "jsonl",
    "table",
    "hub",
    "phantoms",
]
FILES: Mapping[str, tuple[Kind, str]] = {
    "vqa-rad": ("vqa-rad", "FILE, the published JSON"),
    "slake": ("slake", "DIR or FILE: train.json, validate.json, test.json"),
    "slake-en": ("slake-en", "DIR or FILE: train.json, validate.json, test.json"),
    "slake-zh": ("slake-zh", "DIR or FILE: train.json, validate.json, test.json"),
    "path-vqa": ("path-vqa", "DIR or FILE: JSON, JSON Lines or Parquet"),
    "llava-med-vqa": ("llava-med-vqa", "DIR or FILE: train.json, test.json"),
    "llava-med-chat": ("llava-med-chat", "FILE, llava_med_eval_qa50_qa.jsonl"),
}
"""Benchmarks in files, by name: the kind, and what is expected behind the colon."""
NAMES = (*FILES, "questions", "hub", "phantoms")
FORMS = (
    "vqa-rad:FILE.json, slake:DIR (slake-en:, slake-zh:), path-vqa:DIR, llava-med-vqa:FILE, llava-med-chat:FILE, "
    "FILE.jsonl, FILE.parquet, hub:OWNER/NAME or phantoms:N"
)
BY_FOLDER = ("slake", "slake-en", "slake-zh", "path-vqa", "llava-med-vqa")
LANGUAGES: Mapping[str, tuple[slake.Language, ...]] = {
    "slake": slake.LANGUAGES,
    "slake-en": ("en",),
    "slake-zh": ("zh",),
}
PICTURE_FOLDERS = ("images", "imgs")
QUESTION_ENDINGS = (*ENDINGS, ".parquet")


@dataclass(frozen=True, kw_only=True)
class BenchmarkName:
    """A benchmark as typed.

    file: where its questions are, its pictures lying beside; None where they come with the questions, and are put
    into a folder of the run: count phantoms are drawn, those in a table (a Parquet file, a folder of them) or a data
    set of the hub are taken out. columns: fields that go by names of their own there.
    """

    text: str
    kind: Kind
    file: Path | None = None
    count: int = 0
    table: Path | None = None
    hub: HubName | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """A short name for tables and folders: "vqa-rad", "phantoms", or the file's or the data set's name."""
        if self.hub is not None:
            own = Path(self.hub.name).name
        elif self.kind in ("jsonl", "table"):
            own = (self.file or self.table or Path(self.text)).name.split(".")[0]
        else:
            return self.kind
        return re.sub(r"[^\w.-]+", "-", own) or self.kind

    @property
    def place(self) -> Path | None:
        """The file or folder that its questions are read from, if there is one."""
        return self.file or self.table or (self.hub.folder if self.hub else None)


def parse_benchmark(text: str, split: Split = "test") -> BenchmarkName:
    """Read NAME:PATH.

    Args:
        split: whose file is chosen, where a folder is named.

    Raises:
        UsageError: no benchmark is called so, its file is absent, or holds test questions and is to be learned from.
    """
    name, colon, rest = text.partition(":")
    if name == "phantoms" and colon:
        if not rest.isascii() or not rest.isdecimal() or int(rest) < 1:
            raise UsageError(f"expected phantoms:N with N pictures, found {text!r}")
        return BenchmarkName(text=text, kind="phantoms", count=int(rest))
    if name == "hub" and colon:
        address, _, columns = rest.partition("?")
        return BenchmarkName(
            text=text, kind="hub", hub=parse_hub_name(address), columns=parse_fields(columns, where=text)
        )
    if name in FILES and colon:
        return _in_files(text, name, rest, split)
    path, _, columns = (rest if name == "questions" and colon else text).partition("?")
    if name == "questions" and path.startswith("hub:"):
        return parse_benchmark(rest, split)
    if path.lower().endswith(QUESTION_ENDINGS if name == "questions" else (".jsonl", ".jsonl.gz", ".parquet")):
        file, named = require_file(Path(path), "benchmark"), parse_fields(columns, where=text)
        if file.suffix.lower() == ".parquet":
            return BenchmarkName(text=text, kind="table", table=file, columns=named)
        return BenchmarkName(text=text, kind="jsonl", file=file, columns=named)
    near = get_close_matches(name, NAMES, n=1)
    meant = f"Did you mean {near[0]}:? " if near and colon else ""
    raise UsageError(f"no benchmark is called {text!r}", hint=f"{meant}Expected {FORMS}.")


def picture_folder(name: BenchmarkName, images: Path | None) -> Path:
    """Where a file's pictures are: `images` if given, else `images/` or `imgs/` beside the file, else beside the file.

    PathVQA's are looked for two folders up as well, for its files lie in qas/test/.
    """
    if images is not None:
        return images
    if name.file is None:
        raise ValueError(f"{name.text} brings its pictures, and has no folder of them")
    above = name.file.parents[:3] if name.kind == "path-vqa" else name.file.parents[:1]
    beside = (folder / pictures for folder in above for pictures in PICTURE_FOLDERS)
    return next((folder for folder in beside if folder.is_dir()), name.file.parent)


def read_benchmark(name: BenchmarkName, *, pictures: Path | None, split: Split, seed: int) -> BenchmarkRead:
    """Read a benchmark's questions.

    Args:
        pictures: where its pictures are, or are put where they come with the questions; None: they are not needed
            (phantoms are drawn in any case).
        seed: of the phantoms.

    Raises:
        UsageError, DataError, FetchError: as the readers say.
    """
    if name.hub is not None:
        return read_hub(name.hub, pictures, split, name.columns)
    if name.table is not None:
        if name.kind == "path-vqa":
            return path_vqa.read_path_vqa_tables(name.table, pictures, split)
        return read_tables(name.table, pictures, split, name.columns)
    if name.file is None:
        from llavamed_cli.benchmarks.phantom_questions import read_phantoms

        if pictures is None:
            raise ValueError("phantoms are drawn into a folder")
        return read_phantoms(name.count, pictures, split, seed)
    return _read_file(name, name.file, pictures, split)


def training_answers(name: BenchmarkName, *, train: Path | None, seed: int) -> tuple[KnownAnswer, ...]:
    """The training split's answers; empty where neither the benchmark nor `train`, a file of its form, has them."""
    if name.hub is not None:
        return hub_answers(name.hub, name.columns)
    if name.table is not None:
        return _table_answers(name, train)
    if name.file is None:
        from llavamed_cli.benchmarks.phantom_questions import phantom_answers

        return phantom_answers(name.count, seed)
    if name.kind == "vqa-rad":
        return vqa_rad_answers(train or name.file, is_train=train is not None)
    if name.kind == "jsonl":
        return jsonl_answers(train, name.columns) if train else own_training_answers(name.file, name.columns)
    if train is not None:
        return answers_of(_read_file(name, train, None, "train").questions)
    if name.kind in LANGUAGES:
        return slake.slake_answers(name.file, LANGUAGES[name.kind])
    if name.kind == "path-vqa":
        return path_vqa.path_vqa_answers(name.file)
    return llava_med_vqa_answers(name.file) if name.kind == "llava-med-vqa" else ()


def training_part(name: BenchmarkName, train: Path | None = None) -> BenchmarkName | None:
    """The benchmark of the training split, for `read_benchmark(..., split="train")`; None where it is not here.

    train: a file of the benchmark's form that is its training split.
    """
    if name.kind == "llava-med-chat":
        return None
    if train is not None:
        where = {"table": train} if name.table is not None else {"file": train}
        return replace(name, **where) if name.place is not None else name  # type: ignore[arg-type]
    if name.table is not None:
        table = _training_table(name.table)
        return replace(name, table=table) if table else None
    if name.file is None:
        return name
    file: Path | None = name.file
    if name.kind == "jsonl":
        file = own_training_file(name.file, name.columns)
    elif part_of(name.file) != "train" and not (name.kind == "vqa-rad" and marks_test(name.file)):
        file = sibling(name.file, "train")
    return replace(name, file=file) if file else None


def _in_files(text: str, name: str, rest: str, split: Split) -> BenchmarkName:
    kind, expected = FILES[name]
    path = Path(rest)
    if not rest:
        raise UsageError(f"expected {name}:{expected}")
    if is_pickle(path):
        raise refuse_pickle(path)
    if kind == "path-vqa" and path.exists() and path_vqa.is_table(path):
        return BenchmarkName(text=text, kind=kind, table=path)
    if kind in BY_FOLDER and path.is_dir():
        return BenchmarkName(text=text, kind=kind, file=simplest(find_part(path, split, ENDINGS, name)))
    return BenchmarkName(text=text, kind=kind, file=require_file(path, f"{name} file"))


def _read_file(name: BenchmarkName, file: Path, pictures: Path | None, split: Split) -> BenchmarkRead:
    if name.kind in LANGUAGES:
        return slake.read_slake(file, pictures, split, LANGUAGES[name.kind])
    if name.kind == "vqa-rad":
        return read_vqa_rad(file, pictures, split)
    if name.kind == "path-vqa":
        return path_vqa.read_path_vqa(file, pictures, split)
    if name.kind == "llava-med-vqa":
        return read_llava_med_vqa(file, pictures, split)
    if name.kind == "llava-med-chat":
        return read_llava_med_chat(file, pictures, split)
    return read_jsonl_benchmark(file, pictures, split, name.columns)


def _table_answers(name: BenchmarkName, train: Path | None) -> tuple[KnownAnswer, ...]:
    """The answers in `train`, or in the training files that lie with what was named; empty if there are none."""
    place = train or (_training_table(name.table) if name.table else None)
    return answers_of(read_tables(place, None, "train", name.columns).questions) if place else ()


def _training_table(table: Path) -> Path | None:
    """The file or folder of training questions that lies with a table; None if there is none."""
    place = table.parent if table.is_file() and part_of(table) != "train" else table
    return None if place.is_dir() and not holds_part(place, "train", TABLES) else place
