from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPModel

from llavamed_cli.evaluation.answerers.clip_choice import ClipChoice
from llavamed_cli.model.clip import load_clip_model
from llavamed_cli.records import Question


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    image = Image.effect_noise((32, 32), 90).convert("RGB")
    image.save(tmp_path / "p.png")
    return tmp_path / "p.png"


def asked(picture: Path, text: str, kind: str = "closed", choices: tuple[str, ...] = ()) -> Question:
    return Question(
        id=text,
        image=picture.name,
        picture=picture,
        text=text,
        answer="unknown to whoever is asked",
        answer_type=kind,  # type: ignore[arg-type]
        choices=choices,
    )


def chooser(folder: Path, closed: tuple[str, ...]) -> ClipChoice:
    return ClipChoice(cache(lambda: load_clip_model(folder, device="cpu")), closed)


def test_it_chooses_as_transformers_own_clip_does(tiny_clip: Path, picture: Path) -> None:
    closed = ("lung", "left", "ct", "mri")
    (answer,) = chooser(tiny_clip, closed).answer([asked(picture, "which of image")])
    processor, model = AutoProcessor.from_pretrained(tiny_clip), CLIPModel.from_pretrained(tiny_clip)
    texts = [f"which of image {choice}" for choice in closed]
    inputs = processor(text=texts, images=Image.open(picture), return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        shares = model(**inputs).logits_per_image[0].softmax(-1)
    assert answer is not None and answer.text == closed[int(shares.argmax())]
    assert answer.confidence == pytest.approx(float(shares.max()), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "choices", "expected"),
    [
        ("Is the lung left?", (), {"yes", "no"}),
        ("Does it show lung", (), {"yes", "no"}),
        ("Is it ct or mri?", (), {"ct", "mri", "lung"}),
        ("Which?", (), {"ct", "mri", "lung"}),
        ("Which?", ("A lung", "B ct"), {"A lung", "B ct"}),
    ],
)
def test_what_may_be_said_depends_on_the_question_alone(
    tiny_clip: Path, picture: Path, text: str, choices: tuple[str, ...], expected: set[str]
) -> None:
    clip = chooser(tiny_clip, ("ct", "mri", "lung", "CT"))
    question = asked(picture, text, choices=choices)
    assert {line.removeprefix(f"{text} ") for line in clip.prompt(question).split("\n")} == expected
    (answer,) = clip.answer([question])
    assert answer is not None and answer.text in expected


def test_open_questions_have_no_answer_and_need_no_clip(picture: Path) -> None:
    def refuse() -> object:
        raise AssertionError("loaded for nothing")

    assert ClipChoice(refuse, ()).answer([asked(picture, "What?", "open")]) == [None]  # type: ignore[arg-type]
