"""Any benchmark as JSON Lines: {"id", "image", "question", "answer"}, and what else is known about a question.

    {"id": "7", "image": "a.png", "question": "Is there a fracture?", "answer": "no", "answer_type": "closed",
     "question_type": "PRES", "modality": "X-ray", "organ": "CHEST", "language": "en", "split": "test"}

`answer_type` may be left out: an answer "yes" or "no" is then closed, any other open. `question_type` may be a list.
Where records state a `split` (train, validation, test), only those of the split that is asked for are read.
Other names of the fields are known (fields.py), or can be given. A JSON list and .gz files are read as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from llavamed_cli.benchmarks.counts import counts_note, overlap_note
from llavamed_cli.benchmarks.fields import canonical, identity_of, make_question
from llavamed_cli.benchmarks.reading import (
    BenchmarkRead,
    KnownAnswer,
    Record,
    Split,
    answers_of,
    find_picture,
    gather,
    picture_paths,
    require_folder,
    states_answer_type,
)
from llavamed_cli.benchmarks.record_files import read_records
from llavamed_cli.benchmarks.split_files import PARTS, Part, part_named, part_notes, part_of, require_part, sibling
from llavamed_cli.errors import DataError
from llavamed_cli.records import Fault, Question

WHAT = "benchmark"


def read_jsonl_benchmark(
    file: Path, images: Path | None, split: Split = "test", named: Mapping[str, str] | None = None
) -> BenchmarkRead:
    """Read the questions of `file`, whose pictures lie in `images` (None where they are not needed).

    Args:
        named: fields that go by names of their own.

    Raises:
        UsageError: the file or the folder is absent, or test questions would be learned from.
    """
    if images is not None:
        require_folder(images, "folder of the benchmark's pictures")
    strays: list[Fault] = []
    whole = [(where, canonical(record, named or {})) for where, record in read_records(file, WHAT, strays.append)]
    states = any("split" in record for _, record in whole)
    if not states:
        require_part(file, split)
        records = whole
    else:
        strays.extend(_unsplit(whole))
        records = [item for item in whole if _is_of(item[1], split)]
    part = split if states else part_of(file) or split

    def parse(record: Record, identity: str) -> Question:
        picture = find_picture(images, record.get("image"))
        return make_question(record, identity, str(record.get("image")), picture, part=part)

    questions, faults = gather(records, identity_of, parse)
    notes = [*_part_notes(file, split, states), counts_note(questions, None, len(strays) + len(faults))]
    if split == "test" and images is not None and (told := _overlap(file, images, whole, states, named or {})):
        notes.append(told)
    return BenchmarkRead(
        questions=questions, faults=(*strays, *faults), notes=(*notes, *decided(record for _, record in records))
    )


def jsonl_answers(file: Path, named: Mapping[str, str] | None = None) -> tuple[KnownAnswer, ...]:
    """The answers of a training file of this form, without its pictures. Raises DataError at the first broken line."""
    records = read_records(file, WHAT, _refuse)
    known: list[Question] = []
    for where, record in records:
        try:
            fields = {"question": "not needed", **canonical(record, named or {})}
            if _is_of(fields, "train") or "split" not in fields:
                known.append(make_question(fields, where, "", Path(), part="train"))
        except DataError as error:
            raise DataError(error.what, where=where) from error
    return answers_of(known)


def own_training_answers(file: Path, named: Mapping[str, str] | None = None) -> tuple[KnownAnswer, ...]:
    """The training answers that a file's own records, or the training file beside it, state; empty if none do."""
    train = own_training_file(file, named)
    return answers_of(read_jsonl_benchmark(train, None, "train", named).questions) if train else ()


def own_training_file(file: Path, named: Mapping[str, str] | None = None) -> Path | None:
    """Where a benchmark's training questions are: in itself, if its records state their split, or beside it."""
    states = any("split" in canonical(record, named or {}) for _, record in read_records(file, WHAT, lambda _: None))
    return file if states or part_of(file) == "train" else sibling(file, "train")


def decided(records: Iterable[Record]) -> tuple[str, ...]:
    """How open and closed were told, where not every record says it."""
    inferred = sum(not states_answer_type(record) for record in records)
    if not inferred:
        return ()
    return (f"{inferred} questions state no answer_type: those answered yes or no count as closed.",)


def _refuse(fault: Fault) -> None:
    raise DataError(fault.reason, where=fault.where)


def _is_of(record: Record, split: Part) -> bool:
    value = record.get("split")
    return isinstance(value, str) and part_named(value) == split


def _unsplit(records: Iterable[tuple[str, Record]]) -> Iterator[Fault]:
    """The records that state no split, where others do."""
    for where, record in records:
        if not any(_is_of(record, part) for part in PARTS):
            reason = f"split must be {', '.join(PARTS)}, found {record.get('split')!r}"
            yield Fault(where=where, reason=reason, record_id=identity_of(record))


def _part_notes(file: Path, split: Split, states: bool) -> tuple[str, ...]:
    return () if states or part_of(file) is None else part_notes(file, split)


def _overlap(
    file: Path, images: Path, records: Sequence[tuple[str, Record]], states: bool, named: Mapping[str, str]
) -> str | None:
    """What is shared with the training part, where there is one in the file or beside it."""
    train = None if states else sibling(file, "train")
    if states:
        trained = [record for _, record in records if _is_of(record, "train")]
    elif train is not None:
        trained = [canonical(record, named) for _, record in read_records(train, WHAT, lambda _: None)]
    else:
        return None
    tested = [record for _, record in records if not states or _is_of(record, "test")]
    if not trained:
        return None
    return overlap_note(
        picture_paths(images, (record.get("image") for record in trained)),
        picture_paths(images, (record.get("image") for record in tested)),
    )
