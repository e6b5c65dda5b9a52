"""LLaVA-Med's chat questions, llava_med_eval_qa50_qa.jsonl: 193 questions on 50 figures, for a judge to compare.

The reference answer is GPT-4's, written from the figure's caption and from the sentences that cite it: they stand in
`Question.figure`, for the judge to read. `question_types` is the type (conversation or detailed_description),
`modality` the domain: the first of chest_xray, mri, histology, gross and ct_scan that the record says is true, as
LLaVA-Med's evaluation takes it. The pictures are to be fetched from PMC's articles; the set has no training part.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.counts import Counts, counts_note
from llavamed_cli.benchmarks.reading import (
    BenchmarkRead,
    Record,
    Split,
    clean_question,
    clean_text,
    find_picture,
    gather,
    optional_name,
    require_folder,
    text_id,
)
from llavamed_cli.benchmarks.record_files import read_records
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import Fault, FigureText, Question

WHAT = "file of LLaVA-Med's chat questions"
DOMAINS = ("chest_xray", "mri", "histology", "gross", "ct_scan")
PUBLISHED = Counts(193, 50)
LICENSE = "CC BY-NC 4.0"
CITATION = (
    "Li C, Wong C, Zhang S, et al. LLaVA-Med: Training a Large Language-and-Vision Assistant for Biomedicine in One "
    "Day. NeurIPS 2023 (arXiv 2306.00890)."
)
JUDGED = (
    "The reference answers are GPT-4's, written from captions it could read and the model cannot: they are for a judge "
    "to compare (--judge). A match of words says little here."
)


def read_llava_med_chat(file: Path, images: Path | None, split: Split = "test") -> BenchmarkRead:
    """Read the chat questions.

    Args:
        images: the folder that holds the figures; None where they are not needed.

    Raises:
        UsageError: the file or the folder is absent, or training questions are asked for.
        DataError: no record is a chat question.
    """
    if split != "test":
        raise UsageError("LLaVA-Med's chat questions are test questions: there are none to learn from", where=str(file))
    if images is not None:
        require_folder(images, "folder of the chat questions' figures")
    strays: list[Fault] = []
    records = list(read_records(file, WHAT, strays.append))
    if not any("text" in record and "fig_caption" in record for _, record in records):
        raise DataError("no record has `text` and `fig_caption`: these are not the chat questions", where=str(file))
    questions, faults = gather(
        records, lambda record: text_id(record.get("question_id")), partial(_question, images=images)
    )
    types = Counter(name for question in questions for name in question.question_types)
    told = ", ".join(f"{number} {name}" for name, number in sorted(types.items()))
    notes = [
        counts_note(questions, PUBLISHED, len(strays) + len(faults)),
        f"Types: {told or 'none stated'}.",
        JUDGED,
    ]
    return BenchmarkRead(
        questions=questions,
        faults=(*strays, *faults),
        notes=tuple(notes),
        license=LICENSE,
        citation=CITATION,
        judged=True,
    )


def _question(record: Record, identity: str, images: Path | None) -> Question:
    kind = optional_name(record, "type")
    return Question(
        id=identity,
        image=str(record.get("image")),
        picture=find_picture(images, record.get("image")),
        text=clean_question(record.get("text")),
        answer=clean_text(record.get("gpt4_answer"), "gpt4_answer"),
        answer_type="open",
        question_types=(kind,) if kind else (),
        modality=_domain(record.get("domain")),
        split="test",
        figure=FigureText(
            label=optional_name(record, "fig_label") or "",
            caption=clean_text(record.get("fig_caption"), "fig_caption"),
            mentions=_mentions(record.get("in_text_mention")),
        ),
    )


def _domain(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise DataError(f"domain must be an object, found {type(value).__name__}")
    return next((name for name in DOMAINS if value.get(name) is True), None)


def _mentions(value: Any) -> tuple[str, ...]:
    """The citing sentences: texts, or objects whose `tokens` is the text."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DataError(f"in_text_mention must be a list, found {type(value).__name__}")
    texts = (item.get("tokens") if isinstance(item, dict) else item for item in value)
    return tuple(clean_text(text, "in_text_mention") for text in texts)
