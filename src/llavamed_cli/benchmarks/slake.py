"""SLAKE 1.0 as published: train.json, validate.json and test.json in two languages, and imgs/xmlabN/source.jpg.

English and Chinese questions were split apart, so a test picture of one language may be a training picture of the
other. Questions of base type `kvqa` ask for a fact that a knowledge graph has and the picture has not.
Liu et al., IEEE ISBI 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from llavamed_cli.benchmarks.counts import NO_TRAINING_FILE, Counts, counts_note, overlap_note
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
    parse_answer_type,
    picture_paths,
    require_folder,
    text_id,
)
from llavamed_cli.benchmarks.record_files import read_records
from llavamed_cli.benchmarks.split_files import part_notes, part_of, require_part, sibling
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Question

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}

LICENSE = "CC BY 4.0"
CITATION = (
    "Liu B, Zhan LM, Xu L, Ma L, Yang Y, Wu XM. SLAKE: A Semantically-Labeled Knowledge-Enhanced Dataset for Medical "
    "Visual Question Answering. IEEE ISBI 2021."
)
PUBLISHED: Mapping[tuple[Language, str], Counts] = {
    ("en", "train"): Counts(4919, 450, 2976, 1943),
    ("en", "validation"): Counts(1053, 96, 631, 422),
    ("en", "test"): Counts(1061, 96, 645, 416),
    ("zh", "train"): Counts(4916, 450, 2978, 1938),
    ("zh", "validation"): Counts(1046, 96, 624, 422),
    ("zh", "test"): Counts(1033, 96, 613, 420),
}
"""English as LLaVA-Med's evaluation counts them (arXiv 2306.00890, table 4 and its notebook); Chinese as the published
files have them."""
DECIDED = "Open and closed are as the file's answer_type says: closed are yes/no questions and choices among few."
KNOWLEDGE = "kvqa"


def read_slake(
    file: Path, images: Path | None, split: Split, languages: Sequence[Language] = LANGUAGES
) -> BenchmarkRead:
    """Read one file's questions of some languages.

    Args:
        file: train.json, validate.json or test.json, or one of them packed as .json.gz.
        images: the folder that holds `img_name`; None where pictures are not needed.

    Raises:
        UsageError: the file or the folder is absent, or test questions would be learned from.
        DataError: the file is no JSON list of SLAKE's records.
    """
    require_part(file, split)
    if images is not None:
        require_folder(images, "folder of SLAKE's pictures")
    strays: list[Fault] = []
    records = [item for item in _records(file, strays.append) if _language(item[1]) in (None, *languages)]
    questions, faults = gather(records, _identity, lambda record, name: _question(record, name, images, file))
    return BenchmarkRead(
        questions=questions,
        faults=(*strays, *faults),
        notes=_notes(file, questions, split, languages, images, records),
        license=LICENSE,
        citation=CITATION,
    )


def slake_answers(file: Path, languages: Sequence[Language] = LANGUAGES) -> tuple[KnownAnswer, ...]:
    """The training questions' answers, of a training file or of the one beside a test file; empty if there is none."""
    train = file if part_of(file) == "train" else sibling(file, "train")
    return answers_of(read_slake(train, None, "train", languages).questions) if train else ()


def _records(file: Path, on_fault: Callable[[Fault], None]) -> Iterator[tuple[str, Record]]:
    records = list(read_records(file, "SLAKE file", on_fault))
    if not any("img_name" in record and "question" in record for _, record in records):
        raise DataError("no record has `img_name` and `question`: this is not a SLAKE file", where=str(file))
    yield from records


def _identity(record: Record) -> str | None:
    return text_id(record.get("qid"))


def _language(record: Record) -> str | None:
    value = record.get("q_lang")
    return value.strip().lower() if isinstance(value, str) else None


def _question(record: Record, identity: str, images: Path | None, file: Path) -> Question:
    language = _language(record)
    if language not in LANGUAGES:
        raise DataError(f"q_lang must be en or zh, found {record.get('q_lang')!r}")
    content = optional_name(record, "content_type")
    return Question(
        id=identity,
        image=str(record.get("img_name")),
        picture=find_picture(images, record.get("img_name")),
        text=clean_question(record.get("question")),
        answer=clean_text(record.get("answer"), "answer"),
        answer_type=parse_answer_type(record.get("answer_type")),
        question_types=(content,) if content else (),
        modality=optional_name(record, "modality"),
        organ=optional_name(record, "location"),
        language=language,
        split=part_of(file),
        fact=_fact(record),
    )


def _fact(record: Record) -> tuple[str, str, str] | None:
    """The triple of a knowledge question; others have a triple of placeholders."""
    triple: Any = record.get("triple")
    if record.get("base_type") != KNOWLEDGE or not isinstance(triple, list) or len(triple) != 3:
        return None
    return str(triple[0]), str(triple[1]), str(triple[2])


def _notes(
    file: Path,
    questions: Sequence[Question],
    split: Split,
    languages: Sequence[Language],
    images: Path | None,
    records: Sequence[tuple[str, Record]],
) -> tuple[str, ...]:
    notes = list(part_notes(file, split))
    part = part_of(file) or split
    for language in languages:
        own = [question for question in questions if question.language == language]
        faults = sum(_language(record) == language for _, record in records) - len(own)
        notes.append(f"{LANGUAGE_NAMES[language]}: {counts_note(own, PUBLISHED[language, part], faults)}")
    if images is not None and split == "test":
        notes.extend(_overlaps(file, images, languages, records))
    return (*notes, DECIDED)


def _overlaps(
    file: Path, images: Path, languages: Sequence[Language], records: Sequence[tuple[str, Record]]
) -> list[str]:
    """For each language's test pictures, which of them either language's training questions show."""
    train = sibling(file, "train")
    if train is None or part_of(file) == "train":
        return [NO_TRAINING_FILE]
    trained = list(read_records(train, "SLAKE file", lambda _: None))
    notes = []
    for language in languages:
        tested = _pictures(records, language, images)
        for other in LANGUAGES:
            name = f"the {LANGUAGE_NAMES[other]} training questions"
            told = overlap_note(_pictures(trained, other, images), tested, trained=name)
            notes.append(f"{LANGUAGE_NAMES[language]}: {told}")
    return notes


def _pictures(records: Sequence[tuple[str, Record]], language: Language, images: Path) -> dict[str, Path]:
    return picture_paths(images, (record.get("img_name") for _, record in records if _language(record) == language))
