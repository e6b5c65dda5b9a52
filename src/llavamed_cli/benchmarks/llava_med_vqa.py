"""VQA files in LLaVA-Med's form, train.json and test.json, as its evaluation reads them: a question a record.

    {"id": "7", "image": "a.jpg", "answer_type": "CLOSED",
     "conversations": [{"from": "human", "value": "Is it?\\n<image>"}, {"from": "gpt", "value": "yes"}]}

Also read: the key `conversatons`, answers that are integers, and records without answer_type.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from llavamed_cli.benchmarks.counts import NO_TRAINING_FILE, counts_note, overlap_note
from llavamed_cli.benchmarks.reading import (
    BenchmarkRead,
    KnownAnswer,
    Record,
    Split,
    answers_of,
    clean_question,
    clean_text,
    find_picture,
    gather,
    optional_name,
    picture_paths,
    require_folder,
    stated_answer_type,
    states_answer_type,
    text_id,
)
from llavamed_cli.benchmarks.record_files import read_records
from llavamed_cli.benchmarks.split_files import part_notes, part_of, require_part, sibling
from llavamed_cli.conversation_format import parse_sample
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Question

WHAT = "LLaVA-Med VQA file"


def read_llava_med_vqa(file: Path, images: Path | None, split: Split) -> BenchmarkRead:
    """Read a file's questions.

    Args:
        images: the folder that holds the pictures; None where they are not needed.

    Raises:
        UsageError: the file or the folder is absent, or test questions would be learned from.
        DataError: the file is no JSON list of conversations.
    """
    require_part(file, split)
    if images is not None:
        require_folder(images, "folder of the benchmark's pictures")
    strays: list[Fault] = []
    records = list(read_records(file, WHAT, strays.append))
    if not any("conversations" in record or "conversatons" in record for _, record in records):
        raise DataError("no record has `conversations`: this is not a VQA file of LLaVA-Med's form", where=str(file))
    questions, faults = gather(records, _identity, partial(_question, images=images, part=part_of(file) or split))
    inferred = sum(not states_answer_type(record) for _, record in records)
    notes = [*part_notes(file, split), counts_note(questions, None, len(strays) + len(faults))]
    if split == "test" and images is not None:
        notes.append(_overlap(file, images, records))
    notes.append(_decided(inferred))
    return BenchmarkRead(questions=questions, faults=(*strays, *faults), notes=tuple(notes))


def llava_med_vqa_answers(file: Path) -> tuple[KnownAnswer, ...]:
    """The training questions' answers, of a training file or of the one beside a test file; empty if there is none."""
    train = file if part_of(file) == "train" else sibling(file, "train")
    return answers_of(read_llava_med_vqa(train, None, "train").questions) if train else ()


def _identity(record: Record) -> str | None:
    return text_id(record.get("id", record.get("question_id")))


def _question(record: Record, identity: str, images: Path | None, part: str) -> Question:
    turns = parse_sample(record).turns
    if len(turns) != 2:
        raise DataError(f"expected one question and one answer, found {len(turns)} turns")
    answer = clean_text(turns[1].text, "answer")
    kind = optional_name(record, "question_type")
    return Question(
        id=identity,
        image=str(record.get("image")),
        picture=find_picture(images, record.get("image")),
        text=clean_question(turns[0].text),
        answer=answer,
        answer_type=stated_answer_type(record, answer),
        question_types=(kind,) if kind else (),
        split=part,
    )


def _decided(inferred: int) -> str:
    if inferred:
        return f"{inferred:,} questions state no answer_type: those answered yes or no count as closed."
    return "Open and closed are as the file's answer_type says (of PathVQA's types, yes/no is closed)."


def _overlap(file: Path, images: Path, records: Sequence[tuple[str, Record]]) -> str:
    train = sibling(file, "train")
    if train is None:
        return NO_TRAINING_FILE
    trained = read_records(train, WHAT, lambda _: None)
    return overlap_note(
        picture_paths(images, (record.get("image") for _, record in trained)),
        picture_paths(images, (record.get("image") for _, record in records)),
    )
