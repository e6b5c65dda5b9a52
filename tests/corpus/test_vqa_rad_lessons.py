from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from llavamed_cli.benchmarks.reading import BenchmarkRead
from llavamed_cli.benchmarks.vqa_rad import read_vqa_rad
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.vqa_rad import compose_caption, vqa_rad_lessons
from llavamed_cli.records import Question


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
    assert compose_caption(questions, domain) == caption


def test_a_paraphrase_never_shares_a_conversation_with_its_twin(domain: Domain) -> None:
    questions = [
        ask("Is there a mass?", "yes", "PRES"),
        ask("Can a mass be seen?", "yes", "PRES", phrasing="para"),
        ask("Where is it?", "left", "POS"),
    ]
    read = BenchmarkRead(questions=tuple(questions), license="CC0 1.0", citation="Lau 2018")
    (lesson,) = vqa_rad_lessons(read, Path("rad.json"), domain, seed=0)
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
    lessons = list(vqa_rad_lessons(read_vqa_rad(file, images, "train"), file, domain, seed=0))
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
    lessons = list(vqa_rad_lessons(read_vqa_rad(file, images, "train"), file, domain, seed=0))
    counts = Counter(lesson.modality for lesson in lessons)
    assert counts["CXR"] == 107
    assert set(counts) == {"CXR", "CT", "MRI", None}
    assert sum("of the head" in lesson.caption for lesson in lessons) == 103


def test_the_seed_decides_the_order_of_turns(published: tuple[Path, Path], domain: Domain) -> None:
    file, images = published
    read = read_vqa_rad(file, images, "train")
    once, again, other = (list(vqa_rad_lessons(read, file, domain, seed)) for seed in (0, 0, 1))
    assert once == again
    assert [lesson.caption for lesson in once] == [lesson.caption for lesson in other]
    moved = sum(a.dialogues != b.dialogues for a, b in zip(once, other, strict=True))
    assert moved > len(once) / 2
