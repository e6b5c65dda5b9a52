"""PathVQA: the authors' folder with its pickles turned to JSON, JSON Lines, or the Hub's re-release as Parquet.

The original's records are {"image": "train_0422", "question", "answer"} in qas/train/train_qa.pkl, with pictures in
images/train/train_0422.jpg; another set of its files has {"img_id", "sent", "label": {answer: weight}, "answer_type"}.
Pickles are refused: opening one runs the program in it. yes/no questions are closed, numbers and others open.
He et al., arXiv 2003.10286. The re-release on the Hub dropped repeated triplets, and is slightly smaller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from llavamed_cli.benchmarks.counts import NO_TRAINING_FILE, Counts, counts_note, overlap_note
from llavamed_cli.benchmarks.fields import canonical, identity_of, make_question
from llavamed_cli.benchmarks.jsonl import decided
from llavamed_cli.benchmarks.reading import (
    BenchmarkRead,
    KnownAnswer,
    Record,
    Split,
    answers_of,
    gather,
    is_file,
    picture_name,
    picture_path,
    require_folder,
)
from llavamed_cli.benchmarks.record_files import read_records
from llavamed_cli.benchmarks.split_files import Part, part_named, part_notes, part_of, require_part, sibling
from llavamed_cli.benchmarks.tables import ENDINGS as TABLES
from llavamed_cli.benchmarks.tables import read_tables
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Question

WHAT = "PathVQA file"
LICENSE = "MIT"
CITATION = (
    "He X, Zhang Y, Mou L, Xing E, Xie P. PathVQA: 30000+ Questions for Medical Visual Question Answering. "
    "arXiv 2003.10286 (2020)."
)
RIGHTS = "The licence is the data set's: the pictures' copyright is with the textbooks' and the library's owners."
PUBLISHED: Mapping[Part, Counts] = {
    "train": Counts(19755, 2599, 9949, 9806),
    "validation": Counts(6279, 832, 3144, 3135),
    "test": Counts(6761, 858, 3370, 3391),
}
"""The original, as LLaVA-Med's evaluation counts it (arXiv 2306.00890 and its notebook)."""
RE_RELEASED: Mapping[Part, Counts] = {
    "train": Counts(19654),
    "validation": Counts(6259),
    "test": Counts(6719),
}
"""flaviagiammarino/path-vqa on the Hub, by its card."""
PICTURE_ENDINGS = ("", ".jpg", ".png")
DECIDED = "Yes/no questions are closed; numbers and all others are open."
NUMBER_OF = ("yes/no", "number", "other")


def is_table(place: Path) -> bool:
    """Whether a place is the re-release: a Parquet file, or a folder with one, two levels deep at most."""
    if place.is_dir():
        return any(any(place.glob(f"{pattern}{TABLES[0]}")) for pattern in ("*", "*/*", "*/*/*"))
    return place.suffix.lower() in TABLES


def read_path_vqa(file: Path, images: Path | None, split: Split) -> BenchmarkRead:
    """Read one JSON or JSON Lines file of the original.

    Args:
        images: the folder that holds the pictures, or folders of them by split; None where they are not needed.

    Raises:
        UsageError: the file is absent or a pickle, or test questions would be learned from.
        DataError: it is no list of JSON records with questions.
    """
    require_part(file, split)
    if images is not None:
        require_folder(images, "folder of PathVQA's pictures")
    strays: list[Fault] = []
    records = [(where, canonical(record, {})) for where, record in read_records(file, WHAT, strays.append)]
    if not any("image" in record and "question" in record for _, record in records):
        raise DataError("no record has a picture and a question: this is not a PathVQA file", where=str(file))
    part = part_of(file) or split
    numbers = iter(range(len(records)))

    def named(record: Record) -> str | None:
        number = next(numbers)
        return identity_of(record) or f"{part}-{number}"

    def parse(record: Record, identity: str) -> Question:
        picture = _find(images, record.get("image"))
        return make_question(record, identity, str(record["image"]), picture, part=part, extra_types=_kind(record))

    questions, faults = gather(records, named, parse)
    notes = [*part_notes(file, split), counts_note(questions, PUBLISHED[part], len(strays) + len(faults))]
    if images is not None and split == "test":
        notes.append(_overlap(file, images, [record for _, record in records]))
    return BenchmarkRead(
        questions=questions,
        faults=(*strays, *faults),
        notes=(*notes, *(decided(record for _, record in records) or (DECIDED,)), RIGHTS),
        license=LICENSE,
        citation=CITATION,
    )


def read_path_vqa_tables(place: Path, store: Path | None, split: Split) -> BenchmarkRead:
    """Read one split of the re-release; `store` takes its pictures. Raises as `read_tables`."""
    read = read_tables(place, store, split, published=RE_RELEASED.get)
    remark = "This is the Hub's re-release: slightly smaller than the original that published tables were made on."
    return replace(read, notes=(*read.notes, remark, RIGHTS), license=LICENSE, citation=CITATION)


def path_vqa_answers(file: Path) -> tuple[KnownAnswer, ...]:
    """The training questions' answers, of a training file or of the one beside a test file; empty if there is none."""
    train = file if part_of(file) == "train" else sibling(file, "train")
    return answers_of(read_path_vqa(train, None, "train").questions) if train else ()


def _kind(record: Record) -> tuple[str, ...]:
    value = record.get("answer_type")
    return (value.strip().lower(),) if isinstance(value, str) and value.strip().lower() in NUMBER_OF else ()


def _find(images: Path | None, value: object) -> Path:
    """The picture of a name without its ending, in the folder, or in that of the split which the name begins with."""
    name = picture_name(value)
    return Path(name) if images is None else _look(images, name)


def _look(images: Path, name: str) -> Path:
    part = part_named(name)
    folders = [images, *([images / name.split("_")[0]] if part else [])]
    for folder in folders:
        for ending in PICTURE_ENDINGS:
            if is_file(path := picture_path(folder, name + ending)):
                return path
    raise DataError(f"picture {name} is not in {images}")


def _paths(images: Path, records: Sequence[Record]) -> dict[str, Path]:
    paths = {}
    for record in records:
        try:
            name = picture_name(record.get("image"))
            if name not in paths:
                paths[name] = _look(images, name)
        except DataError:
            continue
    return paths


def _overlap(file: Path, images: Path, records: Sequence[Record]) -> str:
    train = sibling(file, "train")
    if train is None or part_of(file) == "train":
        return NO_TRAINING_FILE
    trained = [canonical(record, {}) for _, record in read_records(train, WHAT, lambda _: None)]
    return overlap_note(_paths(images, trained), _paths(images, records))
