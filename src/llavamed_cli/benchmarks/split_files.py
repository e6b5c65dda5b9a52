"""Which part of a benchmark a file is, told by its name, and where the other parts lie: test.json, train_qa.json ...

A file that says it holds test questions is never read to learn from, whatever it was called for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from llavamed_cli.benchmarks.reading import Split
from llavamed_cli.benchmarks.record_files import PICKLES, refuse_pickle
from llavamed_cli.errors import UsageError

Part = Literal["train", "validation", "test"]

_PART = re.compile(r"(?<![a-z])(?:(train|training)|(val|valid|validate|validation|dev)|(test))(?:[-_]?set)?(?![a-z])")
PARTS: tuple[Part, ...] = ("train", "validation", "test")
DEEPEST = 2
PICTURE_FOLDERS = ("images", "imgs", "img", "pictures")


def part_of(file: Path) -> Part | None:
    """The part that a file's name tells ("train_qa.json", "test-00000-of-00003.parquet"), or else its folder is."""
    return part_named(file.name) or _folder_part(file.parent)


def require_part(file: Path, split: Split) -> None:
    """Raise UsageError where test questions would be learned from."""
    if split == "train" and part_of(file) == "test":
        raise UsageError(
            "by its name this file holds test questions: data to learn from are built from training questions alone",
            where=str(file),
            hint="Name the training file, or the folder that holds it.",
        )


def part_notes(file: Path, split: Split) -> tuple[str, ...]:
    """What must be said where a file that is scored, or learned from, is another part by its name."""
    part = part_of(file)
    if part is None:
        return (f"{file.name} does not tell which part it is: all of it is taken as the {split} split.",)
    return other_part_notes(file.name, part, split)


def other_part_notes(what: str, part: Part, split: Split) -> tuple[str, ...]:
    """The same of something whose part is known."""
    if part == split:
        return ()
    if split == "test":
        return (f"{what} is the {part} split by its name: a score on it is not the benchmark's.",)
    return (f"{what} is the {part} split by its name.",)


def find_part(folder: Path, part: Part, endings: tuple[str, ...], what: str) -> list[Path]:
    """The files of one part in a folder, two levels deep at most, in order.

    Raises:
        UsageError: there is none; said apart where there are only pickles.
    """
    named = [file for file in _files(folder) if part_of(file.relative_to(folder)) == part]
    found = [file for file in named if file.name.lower().endswith(endings)]
    if found:
        return found
    if pickles := [file for file in named if file.suffix.lower() in PICKLES]:
        raise refuse_pickle(pickles[0])
    listed = ", ".join(f"*{part}*{ending}" for ending in endings)
    raise UsageError(f"no file of {what}'s {part} split in this folder: expected {listed}", where=str(folder))


def holds_part(folder: Path, part: Part, endings: tuple[str, ...]) -> bool:
    """Whether `find_part` would find a file."""
    files = (file for file in _files(folder) if file.name.lower().endswith(endings))
    return any(part_of(file.relative_to(folder)) == part for file in files)


def simplest(files: list[Path]) -> Path:
    """Of several files of one part the one with the shortest name: test.json before test_w_options.json."""
    return min(files, key=lambda file: (len(file.name), file.as_posix()))


def sibling(file: Path, part: Part) -> Path | None:
    """The file beside `file` that is the same but for the part: test.json's train.json, or train.json.gz.

    In a folder of the part's own (test/test_qa.json) it is looked for in its counterpart (train/train_qa.json).
    """
    if part_named(file.name) is None:
        return None
    folders = [file.parent]
    if _folder_part(file.parent) is not None:
        folders = [entry for entry in sorted(file.parent.parent.iterdir()) if _folder_part(entry) == part]
    beside = [entry for folder in folders if folder.is_dir() for entry in sorted(folder.iterdir())]
    alike = [entry for entry in beside if _rest(entry) == _rest(file) and part_named(entry.name) == part]
    return next((entry for entry in alike if entry != file and entry.is_file()), None)


def _folder_part(folder: Path) -> Part | None:
    """The part that a folder is, by all of its name: one called test_runs is none."""
    return part_named(folder.name) if _PART.fullmatch(folder.name.lower()) else None


def part_named(name: str) -> Part | None:
    """The part that a name tells: "val" and "dev" are the validation part."""
    found = _PART.search(name.lower())
    return next((part for part, group in zip(PARTS, found.groups(), strict=True) if group), None) if found else None


def _rest(file: Path) -> str:
    return _PART.sub("*", file.name.lower()).removesuffix(".gz")


def _files(folder: Path, depth: int = 0) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"the folder cannot be listed: {error.strerror or error}", where=str(folder)) from error
    for entry in inside:
        if entry.is_file():
            yield Path(entry)
    for entry in inside:
        if entry.is_dir() and depth < DEEPEST and not entry.name.startswith(".") and entry.name not in PICTURE_FOLDERS:
            yield from _files(Path(entry), depth + 1)
