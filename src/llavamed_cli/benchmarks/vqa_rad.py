"""VQA-RAD as published (`VQA_RAD Dataset Public.json`), and the re-split files that MEVF and later papers use.

In the original, a phrase type that begins with `test_` marks the 451 test questions. A re-split file has no such marks:
it is one split by itself, and is taken for the one that is asked for. Lau et al., Scientific Data 5:180251 (2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.counts import Counts, counts_note
from llavamed_cli.benchmarks.reading import (
    BenchmarkRead,
    KnownAnswer,
    Split,
    clean_question,
    clean_text,
    find_picture,
    gather,
    parse_answer_type,
    require_folder,
)
from llavamed_cli.benchmarks.split_files import require_part
from llavamed_cli.errors import DataError
from llavamed_cli.files import read_json
from llavamed_cli.records import Question

LICENSE = "CC0 1.0"
CITATION = (
    "Lau JJ, Gayen S, Ben Abacha A, Demner-Fushman D. A dataset of clinically generated visual questions and answers "
    "about radiology images. Scientific Data 5:180251 (2018)."
)
PUBLISHED: Mapping[Split, Counts] = {"train": Counts(1797, 313, 770, 1027), "test": Counts(451, 203, 179, 272)}
"""As LLaVA-Med's evaluation counts the original (arXiv 2306.00890 and its notebook)."""
DECIDED = "Open and closed are as the file's answer_type says; not every closed answer is yes or no."
TEST_PREFIX = "test_"
TYPE_SPELLINGS = {"PRSE": "PRES", "ATRIB": "ATTRIB"}
"""Two misspelt question types, one row each in the original."""


def read_vqa_rad(file: Path, images: Path | None, split: Split) -> BenchmarkRead:
    """Read one split.

    Args:
        file: the original JSON, or a re-split one.
        images: the folder that holds `image_name`; None where pictures are not needed.

    Raises:
        UsageError: the file or the folder is absent, or a re-split file of test questions would be learned from.
        DataError: the file is no JSON list of VQA-RAD records.
    """
    records = _records(file)
    if images is not None:
        require_folder(images, "folder of VQA-RAD's pictures")
    original = _marks_test(records)
    if not original:
        require_part(file, split)
    questions, faults = gather(
        (
            (f"{file}, record {index}", {"qid": index, **record})
            for index, record in enumerate(records)
            if not original or _split(record) == split
        ),
        lambda record: str(record["qid"]).strip(),
        partial(_question, images=images, split=split),
    )
    counted = counts_note(questions, PUBLISHED[split] if original else None, len(faults))
    return BenchmarkRead(
        questions=questions,
        faults=tuple(faults),
        notes=(*_notes(records, original, split, file), counted, DECIDED),
        license=LICENSE,
        citation=CITATION,
    )


def vqa_rad_answers(file: Path, *, is_train: bool) -> tuple[KnownAnswer, ...]:
    """The training questions' answers; pictures are not needed.

    Args:
        is_train: a re-split file is the training split. If it is not, it holds no training answer.

    Raises:
        UsageError: the file is absent. DataError: it is no VQA-RAD, or an answer in it is broken.
    """
    records = _records(file)
    original = _marks_test(records)
    if not original and not is_train:
        return ()
    known: list[KnownAnswer] = []
    for index, record in enumerate(records):
        if original and _split(record) == "test":
            continue
        try:
            known.append((parse_answer_type(record.get("answer_type")), clean_text(record.get("answer"), "answer")))
        except DataError as error:
            raise DataError(error.what, where=f"{file}, record {index}") from error
    return tuple(known)


def marks_test(file: Path) -> bool:
    """Whether a file is the original, which tells test questions from training questions. Raises as the reader does."""
    return _marks_test(_records(file))


def _marks_test(records: Sequence[Mapping[str, Any]]) -> bool:
    return any(_split(record) == "test" for record in records)


def _records(file: Path) -> list[Mapping[str, Any]]:
    whole = read_json(file, "VQA-RAD file")
    if not isinstance(whole, list) or not whole or not all(isinstance(record, dict) for record in whole):
        raise DataError("expected a JSON list of VQA-RAD records", where=str(file))
    if not any("image_name" in record and "question" in record for record in whole):
        raise DataError("no record has `image_name` and `question`: this is not a VQA-RAD file", where=str(file))
    return whole


def _question(record: Mapping[str, Any], identity: str, images: Path | None, split: Split) -> Question:
    organ = record.get("image_organ")
    return Question(
        id=identity,
        image=str(record.get("image_name")),
        picture=find_picture(images, record.get("image_name")),
        text=clean_question(record.get("question")),
        answer=clean_text(record.get("answer"), "answer"),
        answer_type=parse_answer_type(record.get("answer_type")),
        question_types=_question_types(record.get("question_type")),
        organ=organ.strip() if isinstance(organ, str) and organ.strip() else None,
        phrasing=_phrase_type(record).removeprefix(TEST_PREFIX) or None,
        split=split,
    )


def _question_types(value: Any) -> tuple[str, ...]:
    """The types of one question in alphabetical order: "PRES, POS" and "POS, PRES" are the same."""
    if not isinstance(value, str):
        return ()
    names = (name.strip().upper() for name in value.split(","))
    return tuple(sorted({TYPE_SPELLINGS.get(name, name) for name in names if name}))


def _phrase_type(record: Mapping[str, Any]) -> str:
    value = record.get("phrase_type")
    return value.strip().lower() if isinstance(value, str) else ""


def _split(record: Mapping[str, Any]) -> Split:
    return "test" if _phrase_type(record).startswith(TEST_PREFIX) else "train"


def _notes(records: Sequence[Mapping[str, Any]], original: bool, split: Split, file: Path) -> tuple[str, ...]:
    if not original:
        return (f"{file.name} marks no test questions (a re-split file): all of it is taken as the {split} split.",)
    pictures: dict[Split, set[Any]] = {"train": set(), "test": set()}
    for record in records:
        pictures[_split(record)].add(record.get("image_name"))
    shared, tested = len(pictures["train"] & pictures["test"]), len(pictures["test"])
    overlap = f"{shared} of the {tested} test pictures also occur in the training split"
    return (f"{overlap}: a model trained on that split has seen them.",)
