from __future__ import annotations

from collections.abc import Sequence
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


def transformers_shares(folder: Path, picture: Path, ways: Sequence[Sequence[str]]) -> torch.Tensor:
    """Softmax over answers whose texts' unit vectors are averaged, by transformers' own CLIP."""
    processor, model = AutoProcessor.from_pretrained(folder), CLIPModel.from_pretrained(folder)
    read = []
    for texts in ways:
        inputs = processor(text=list(texts), images=Image.open(picture), return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            made = model(**inputs)
        read.append(made.text_embeds)
    mean = torch.stack(read).mean(0)
    mean = mean / mean.norm(dim=-1, keepdim=True)
    return (model.logit_scale.exp() * made.image_embeds @ mean.T)[0].softmax(-1).detach()


def test_it_chooses_as_transformers_own_clip_does(tiny_clip: Path, picture: Path) -> None:
    closed = ("lung", "left", "ct", "mri")
    (answer,) = chooser(tiny_clip, closed).answer([asked(picture, "which of image")])
    shares = transformers_shares(
        tiny_clip,
        picture,
        [[f"which of image {one}" for one in closed], [f"an image of {one}" for one in closed], closed],
    )
    assert answer is not None and answer.text == closed[int(shares.argmax())]
    assert answer.confidence == pytest.approx(float(shares.max()), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "choices", "expected"),
    [
        ("Is the lung left?", (), {"yes", "no"}),
        ("Does it show lung", (), {"yes", "no"}),
        ("Is it ct or mri?", (), {"ct", "mri"}),
        ("Which?", (), {"ct", "mri", "lung"}),
        ("Which?", ("A lung", "B ct"), {"A lung", "B ct"}),
    ],
)
def test_what_may_be_said_depends_on_the_question_alone(
    tiny_clip: Path, picture: Path, text: str, choices: tuple[str, ...], expected: set[str]
) -> None:
    clip = chooser(tiny_clip, ("ct", "mri", "lung", "CT"))
    question = asked(picture, text, choices=choices)
    assert {line.split(" | ")[-1].partition(":")[0] for line in clip.prompt(question).split("\n")} == expected
    (answer,) = clip.answer([question])
    assert answer is not None and answer.text in expected


def test_open_questions_have_no_answer_and_need_no_clip(picture: Path) -> None:
    def refuse() -> object:
        raise AssertionError("loaded for nothing")

    assert ClipChoice(refuse, ()).answer([asked(picture, "What?", "open")]) == [None]  # type: ignore[arg-type]


def test_an_answer_is_not_cut_off_behind_a_long_question(tiny_clip: Path, picture: Path) -> None:
    """The CLIP reads 12 tokens, and the question has 20: said after it, all answers would be the same text."""
    closed, long = ("lung", "left", "ct", "mri"), "which " * 20
    (answer,) = chooser(tiny_clip, closed).answer([asked(picture, long)])
    shares = transformers_shares(tiny_clip, picture, [[f"an image of {one}" for one in closed], closed])
    assert answer is not None and answer.confidence == pytest.approx(float(shares.max()), abs=1e-5)
    (verdict,) = chooser(tiny_clip, ()).answer([asked(picture, "is the lung " * 20)])
    assert verdict is not None and verdict.confidence is not None and verdict.confidence > 0.5001


def test_where_closed_answers_are_from_is_said(tiny_clip: Path) -> None:
    clip = ClipChoice(lambda: load_clip_model(tiny_clip), (), closed_from="the questions asked themselves")
    assert "the questions asked themselves" in clip.decoding and "open questions are unanswered" in clip.decoding
