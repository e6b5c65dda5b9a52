"""A cascade of tiny parts: who looks at what, what is said of it, and what an interruption costs."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.errors import DataError
from llavamed_cli.evaluation.answerers import cascade as room
from llavamed_cli.evaluation.answerers.cascade import Cascade
from llavamed_cli.evaluation.answerers.cascade_file import CascadePlan, Expert
from llavamed_cli.model.clip import load_clip_model
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import load_model
from llavamed_cli.records import Question, Turn

LABELS = ("ct scan of the lung", "a chest x ray", "left nodule")
FINDINGS = ("nodule", "left lung", "right lobe", "mri")
PROMPT = "{label}: {description} {question}"


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    asked = []
    for number in range(8):
        file = tmp_path / f"{number}.png"
        Image.effect_noise((40, 30), 10 + 25 * number).convert("RGB").save(file)
        for text in ("Is it a <image> {label}?", "Which?"):
            asked.append(
                Question(id=f"{number}{text}", image=file.name, picture=file, text=text, answer="", answer_type="open")
            )
    return asked


def plan_of(clip: Path, model: Path, /, **changes: Any) -> CascadePlan:
    names = Expert(name="names", label=LABELS[0], clip=clip, findings=FINDINGS)
    tells = Expert(name="tells", label=LABELS[1], model=str(model), prompt="<image> Describe it.")
    more = Expert(name="more", label=LABELS[2], clip=clip, findings=FINDINGS[:2])
    whole = {"experts": (names, tells, more), "clip": clip, "answerer": str(model), "prompt": PROMPT}
    return CascadePlan(file=Path("cascade.toml"), **{**whole, **changes})  # type: ignore[arg-type]


def cascade_of(plan: CascadePlan, **named: Any) -> Cascade:
    model, clip = cache(lambda where: load_model(where, device="cpu")), cache(lambda where: load_clip_model(where))
    return Cascade(plan, model, clip, max_new_tokens=4, **named)


def test_every_step_is_what_its_parts_say_alone(
    tiny_clip: Path, tiny_model: Path, questions: list[Question], tmp_path: Path
) -> None:
    cascade = cascade_of(plan_of(tiny_clip, tiny_model), kept=tmp_path / "kept" / "d.jsonl")
    assert "..." in cascade.prompt(questions[0])
    answers = [answer for batch in cascade.batches(questions) for answer in cascade.answer(batch)]
    clip, model = load_clip_model(tiny_clip), load_model(str(tiny_model), device="cpu")
    labels, findings = clip.texts(LABELS)[0], clip.texts(FINDINGS)[0]
    routed = set()
    for question, answer in zip(questions, answers, strict=True):
        picture = Image.open(question.picture).convert("RGB")
        seen = clip.pictures([picture])
        label = LABELS[int(clip.shares(seen, labels)[0].argmax())]
        routed.add(label)
        if label == LABELS[1]:
            turn = Turn(speaker="human", text="<image>\nDescribe it.")
            (made,) = answer_batch(model, [Prompt((turn,), (picture,))], max_new_tokens=room.DESCRIPTION_TOKENS)
            said = made.text
        else:
            known = FINDINGS if label == LABELS[0] else FINDINGS[:2]
            shares = clip.shares(seen, findings[: len(known)])[0].tolist()
            ranked = sorted(zip(shares, known, strict=True), reverse=True)[:3]
            said = ", ".join(f"{name} ({share:.0%})" for share, name in ranked)
        asked = f"{label}: {said} {question.text}".replace("<image>", "")
        assert cascade.prompt(question) == asked
        (alone,) = answer_batch(model, [Prompt((Turn(speaker="human", text=asked),))], max_new_tokens=4)
        assert answer is not None and answer.text == alone.text
        assert answer.confidence == pytest.approx(alone.confidence, abs=1e-5)
    assert len(routed) > 1, "all pictures went to one expert, and routing is not tested"


def test_an_interrupted_run_looks_at_no_picture_twice(
    tiny_clip: Path, tiny_model: Path, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "AT_ONCE", 3)
    plan = plan_of(tiny_clip, tiny_model)
    looked: list[int] = []
    look = Cascade._look

    def counted(self: Cascade, expert: Expert, pictures: Any) -> list[str]:
        looked.append(len(pictures))
        if sum(looked) > 4 and not again:
            raise KeyboardInterrupt
        return look(self, expert, pictures)

    monkeypatch.setattr(Cascade, "_look", counted)
    again = False
    first = cascade_of(plan, kept=tmp_path / "d.jsonl")
    with pytest.raises(KeyboardInterrupt):
        [*first.answer(first.batches(questions)[0])]
    kept = len((tmp_path / "d.jsonl").read_text().splitlines())
    looked, again = [], True
    second = cascade_of(plan, kept=tmp_path / "d.jsonl")
    answers = [answer for batch in second.batches(questions) for answer in second.answer(batch)]
    assert 0 < kept < 8 and sum(looked) == 8 - kept
    whole = cascade_of(plan)
    assert answers == [answer for batch in whole.batches(questions) for answer in whole.answer(batch)]


def test_a_server_is_asked_descriptions_and_no_picture(
    tiny_clip: Path, tiny_model: Path, questions: list[Question]
) -> None:
    asked: list[str] = []

    class Asker:
        def answers(self, some: list[Question]) -> Any:
            asked.extend(one.text for one in some)
            return [SimpleNamespace(text=None if number == 1 else " yes\n") for number in range(len(some))]

    @contextmanager
    def open_asker() -> Any:
        yield Asker()

    plan = plan_of(tiny_clip, tiny_model, answerer=None, served="m")
    cascade = cascade_of(plan, open_asker=open_asker)
    (batch,) = cascade.batches(questions)
    answers = [*cascade.answer(batch)]
    assert answers[1] is None and {answer.text for answer in answers if answer} == {"yes"}
    assert asked == [cascade.prompt(question) for question in questions] and "m (temperature 0)" in cascade.decoding


def test_a_classifier_routes_and_what_it_knows_no_expert_for_goes_to_the_last(
    tiny_clip: Path, tiny_model: Path, questions: list[Question], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from llavamed_cli.evaluation.answerers import picture_classes

    classes = iter([LABELS[1], "a dog", LABELS[0], *["a dog"] * 5])
    monkeypatch.setattr(picture_classes, "load_classifier", lambda folder, wanted: lambda picture: next(classes))
    cascade = cascade_of(plan_of(tiny_clip, tiny_model, clip=None, classifier=tmp_path))
    [*cascade.answer(cascade.batches(questions)[0])]
    routed = [cascade.prompt(question).partition(":")[0] for question in questions[::2]]
    assert routed == [LABELS[1], LABELS[2], LABELS[0], *[LABELS[2]] * 5]


def test_a_text_that_the_clip_cannot_read_whole_is_refused(
    tiny_clip: Path, tiny_model: Path, questions: list[Question]
) -> None:
    """Two labels that differ behind the twelfth word would be the same to it."""
    long = Expert(name="x", label="a " * 20 + "lung", clip=tiny_clip, findings=FINDINGS)
    plan = plan_of(tiny_clip, tiny_model)
    cascade = cascade_of(plan_of(tiny_clip, tiny_model, experts=(*plan.experts, long)))
    with pytest.raises(DataError, match=r"cascade\.toml: this CLIP cannot read 'a a"):
        [*cascade.answer(questions)]
