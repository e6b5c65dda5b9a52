"""What is said of a benchmark's size beside the published one, and of pictures that training and test share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llavamed_cli.benchmarks.reading import is_file
from llavamed_cli.files import file_sha256
from llavamed_cli.records import Question

NO_TRAINING_FILE = "No training file lies beside it: whether pictures are shared cannot be told."


@dataclass(frozen=True)
class Counts:
    """How large one part of a benchmark is. What was not published is None."""

    questions: int
    pictures: int | None = None
    open: int | None = None
    closed: int | None = None

    def __str__(self) -> str:
        pictures = "" if self.pictures is None else f" on {_counted(self.pictures, 'picture')}"
        types = "" if self.open is None or self.closed is None else f", {self.open:,} open and {self.closed:,} closed"
        return f"{_counted(self.questions, 'question')}{pictures}{types}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def count(questions: Iterable[Question]) -> Counts:
    """The size of what was read."""
    listed = list(questions)
    kinds = [question.answer_type for question in listed]
    return Counts(len(listed), len({question.image for question in listed}), kinds.count("open"), kinds.count("closed"))


def counts_note(questions: Iterable[Question], published: Counts | None, faults: int = 0) -> str:
    """What was read, and whether that is what was published."""
    read = count(questions)
    apart = f", and {faults:,} that cannot be asked" if faults else ""
    if published is None:
        return f"{read}{apart}."
    known = [(getattr(read, name), value) for name, value in vars(published).items() if value is not None]
    if all(found == expected for found, expected in known):
        return f"{read}{apart}: as published."
    return f"{read}{apart}; published are {published}."


def overlap_note(train: Mapping[str, Path], test: Mapping[str, Path], *, trained: str = "the training split") -> str:
    """How many test pictures a model has seen that was trained on `train`: by their names, and by their bytes.

    Args:
        train, test: where each named picture lies; one that is not there is compared by its name alone.
    """
    shared = {name for name in test if name in train} | _same_bytes(train, test)
    absent = sum(not is_file(path) for path in (*train.values(), *test.values()))
    how = f"by name; {absent:,} pictures are not here to compare their bytes" if absent else "by name or by bytes"
    return shared_note(len(shared), len(test), how, trained)


def shared_note(shared: int, tested: int, how: str, trained: str = "the training split") -> str:
    """That some test pictures are training pictures too, or that none is; how: by what they were compared."""
    if not shared:
        return f"None of the {tested:,} test pictures occurs in {trained} ({how})."
    occur = "occurs" if shared == 1 else "occur"
    seen = "that split" if trained.endswith("split") else "those"
    return (
        f"{shared:,} of the {tested:,} test pictures also {occur} in {trained}: "
        f"a model trained on {seen} has seen them."
    )


def _same_bytes(train: Mapping[str, Path], test: Mapping[str, Path]) -> set[str]:
    """The test pictures whose bytes are a training picture's of another name. Only equal sizes are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in train.values():
        if is_file(path):
            by_size[path.stat().st_size].append(path)
    same = set()
    for name, path in test.items():
        alike = by_size.get(path.stat().st_size, []) if name not in train and is_file(path) else []
        if alike and file_sha256(path) in {file_sha256(other) for other in alike}:
            same.add(name)
    return same
