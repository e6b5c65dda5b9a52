from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.benchmarks.open_benchmark import BenchmarkName
from llavamed_cli.benchmarks.reading import BenchmarkRead
from llavamed_cli.benchmarks.vqa_rad import read_vqa_rad
from llavamed_cli.corpus.benchmark_lessons import benchmark_lessons
from llavamed_cli.corpus.composed_captions import VQA_RAD, compose_caption
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.records import Question

RAD = BenchmarkName(text="vqa-rad:rad.json", kind="vqa-rad", file=Path("rad.json"))


def ask(text: str, answer: str, kind: str, *, phrasing: str = "freeform", organ: str = "HEAD") -> Question:
    closed = answer.lower() in ("yes", "no")
    return Question(
        id=text,
        image="a.jpg",
        picture=Path("images/a.jpg"),
        text=text,
        answer=answer,
        answer_type="closed" if closed else "open",
        question_types=(kind,),
        organ=organ,
        phrasing=phrasing,
    )


@pytest.mark.parametrize(
    ("questions", "caption"),
    [
        ([], "Image."),
        ([ask("Is there a pneumothorax?", "yes", "PRES", organ="CHEST")], "Chest X-ray. Findings: pneumothorax."),
        ([ask("Is there a pneumothorax?", "no", "PRES", organ="CHEST")], "Chest X-ray."),
        ([ask("Is this film taken in a PA position?", "yes", "PLANE", organ="CHEST")], "PA chest X-ray."),
        (
            [ask("Where is the mass?", "Pancreas", "POS", organ="ABD")],
            "Axial CT of the abdomen. Findings: mass (Pancreas).",
        ),
        ([ask("What type of imaging is this?", "MRI", "MODALITY")], "Axial MRI of the head."),
        ([ask("Is this a CT scan?", "yes", "MODALITY")], "Axial CT of the head."),
        ([ask("Is this a CT scan?", "no", "MODALITY")], "Axial image of the head."),
        ([ask("What type of imaging does this not represent?", "MRI", "MODALITY")], "Axial image of the head."),
        ([ask("In what plane is this?", "Sagittal", "PLANE")], "Sagittal image of the head."),
        ([ask("How many lesions are seen?", "2", "COUNT")], "Axial image of the head. Findings: 2 lesions."),
        ([ask("Is the trachea midline?", "yes", "PRES")], "Axial image of the head. Findings: trachea midline."),
        ([ask("Is there no midline shift?", "yes", "PRES")], "Axial image of the head."),
        ([ask("What is abnormal?", "nothing", "ABN")], "Axial image of the head."),
        ([ask("What is abnormal?", "Midline shift", "ABN")], "Axial image of the head. Findings: Midline shift."),
        ([ask("What is the trachea's position?", "Midline", "PRES")], "Axial image of the head."),
        (
            [
                ask("Is there evidence of a subdural bleed?", "yes", "PRES", phrasing="para"),
                ask("Is there a subdural bleed?", "yes", "PRES"),
                ask("Is there mass effect?", "yes", "PRES", phrasing="para"),
            ],
            "Axial image of the head. Findings: subdural bleed; mass effect.",
        ),
    ],
)
def test_a_caption_says_what_the_annotations_affirm(questions: list[Question], caption: str, domain: Domain) -> None:
    assert compose_caption(questions, domain, VQA_RAD) == caption


def test_a_paraphrase_never_shares_a_conversation_with_its_twin(domain: Domain) -> None:
    questions = [
        ask("Is there a mass?", "yes", "PRES"),
        ask("Can a mass be seen?", "yes", "PRES", phrasing="para"),
        ask("Where is it?", "left", "POS"),
    ]
    read = BenchmarkRead(questions=tuple(questions), license="CC0 1.0", citation="Lau 2018")
    (lesson,) = benchmark_lessons(read, RAD, domain, seed=0)
    by_name = {dialogue.name: {question for question, _ in dialogue.exchanges} for dialogue in lesson.dialogues}
    assert by_name == {"freeform": {"Is there a mass?", "Where is it?"}, "para": {"Can a mass be seen?"}}
    assert lesson.caption_source is not None
    assert (lesson.caption_source.citation or "").startswith("Composed by rule")
    assert (lesson.source.kind, lesson.source.license, lesson.source.citation) == ("vqa-rad", "CC0", "Lau 2018")


@pytest.fixture(scope="module")
def published(shared: Path) -> tuple[Path, Path]:
    folder = shared / "data" / "vqa_rad"
    return folder / "VQA_RAD Dataset Public.json", folder / "images"


def test_the_published_training_questions_are_all_there_once(published: tuple[Path, Path], domain: Domain) -> None:
    file, images = published
    lessons = list(benchmark_lessons(read_vqa_rad(file, images, "train"), RAD, domain, seed=0))
    asked = Counter(
        (lesson.picture.name, dialogue.name, question)  # type: ignore[union-attr]
        for lesson in lessons
        for dialogue in lesson.dialogues
        for question, _ in dialogue.exchanges
    )
    rows = json.loads(file.read_text(encoding="utf-8"))
    expected = Counter(
        (row["image_name"], row["phrase_type"], " ".join(row["question"].split()))
        for row in rows
        if not row["phrase_type"].startswith("test")
    )
    assert asked == expected
    assert asked.total() == 1797 and len(lessons) == 313


def test_the_modalities_are_those_that_the_paper_counts(published: tuple[Path, Path], domain: Domain) -> None:
    """Lau et al. 2018: 107 chest X-rays, 104 abdominal CTs, 104 CTs or MRIs of the head; two pictures have no training
    question."""
    file, images = published
    lessons = list(benchmark_lessons(read_vqa_rad(file, images, "train"), RAD, domain, seed=0))
    counts = Counter(lesson.modality for lesson in lessons)
    assert counts["CXR"] == 107
    assert set(counts) == {"CXR", "CT", "MRI", None}
    assert sum("of the head" in lesson.caption for lesson in lessons) == 103


def test_the_seed_decides_the_order_of_turns(published: tuple[Path, Path], domain: Domain) -> None:
    file, images = published
    read = read_vqa_rad(file, images, "train")
    once, again, other = (list(benchmark_lessons(read, RAD, domain, seed)) for seed in (0, 0, 1))
    assert once == again
    assert [lesson.caption for lesson in once] == [lesson.caption for lesson in other]
    moved = sum(a.dialogues != b.dialogues for a, b in zip(once, other, strict=True))
    assert moved > len(once) / 2


def slake(text: str, answer: str, kind: str, **more: Any) -> Question:
    return replace(ask(text, answer, kind, organ="Lung"), phrasing=None, modality="X-Ray", **more)


def test_what_a_benchmark_states_composes_the_caption_and_what_only_a_graph_knows_does_not(domain: Domain) -> None:
    questions = [
        slake("What diseases are included in the picture?", "Pneumonia", "Abnormality"),
        slake("What disease is treated by antibiotics?", "Cholera", "KG", fact=("vhead", "treat", "ktail")),
        slake("What is the scanning plane of this image?", "Coronal Plane", "Plane"),
        slake("How many existing lungs in this image?", "2", "Quantity"),
        slake("\u56fe\u4e2d\u5305\u542b\u54ea\u4e9b\u75be\u75c5?", "\u80ba\u708e", "Abnormality", language="zh"),
    ]
    read = BenchmarkRead(questions=tuple(replace(one, image="xmlab1/source.jpg") for one in questions))
    name = BenchmarkName(text="slake:train.json", kind="slake", file=Path("train.json"))
    (lesson,) = benchmark_lessons(read, name, domain, seed=0)
    assert lesson.caption == "Coronal chest X-ray. Findings: Pneumonia; 2 lungs."
    assert (lesson.id, lesson.modality, lesson.source.kind) == ("slake-xmlab1-source", "CXR", "slake")
    assert {dialogue.name: len(dialogue.exchanges) for dialogue in lesson.dialogues} == {"asked": 4, "asked-zh": 1}


def test_questions_that_tell_nothing_of_the_picture_have_no_caption(domain: Domain) -> None:
    question = replace(ask("What is seen?", "cells", "x"), organ=None, phrasing=None)
    name = BenchmarkName(text="path-vqa:train.json", kind="path-vqa", file=Path("train.json"))
    (lesson,) = benchmark_lessons(BenchmarkRead(questions=(question,)), name, domain, seed=0)
    assert lesson.caption is None and lesson.caption_source is None
