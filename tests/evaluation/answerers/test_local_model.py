"""A model folder as an answerer: whole pictures in a batch, and the answers that each question gets alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from llavamed_cli.errors import PictureError
from llavamed_cli.evaluation.answerers.local_model import AT_ONCE, LocalModel, ModelShelf
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.images import open_picture
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.records import Question, Turn

TEXTS = ["Is it a lung?", "What is it?", "Where?", "Is it a lung?", "Which plane is this, and why?"]


def question(number: int, image: str = "a.png", text: str = "Is it?", folder: Path = Path()) -> Question:
    return Question(id=str(number), image=image, picture=folder / image, text=text, answer="yes", answer_type="closed")


def local_model(batch_size: int | None, *, blind: bool = False) -> LocalModel:
    def load() -> Any:
        raise AssertionError("not needed to plan batches")

    return LocalModel(load, blind=blind, max_new_tokens=8, batch_size=batch_size)


questions = st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from(TEXTS)), max_size=40).map(
    lambda pairs: [question(number, f"{image}.png", text) for number, (image, text) in enumerate(pairs)]
)


@given(questions, st.integers(1, 9), st.booleans())
def test_batches_hold_every_question_once_and_cut_none_that_fits(asked: list[Question], size: int, blind: bool) -> None:
    batches = local_model(size, blind=blind).batches(asked)
    assert sorted(int(one.id) for batch in batches for one in batch) == list(range(len(asked)))
    assert all(0 < len(batch) <= size for batch in batches)
    assert local_model(size, blind=blind).batches(asked) == batches
    key = "text" if blind else "image"
    for shared in {getattr(one, key) for one in asked}:
        held = [sum(getattr(one, key) == shared for one in batch) for batch in batches]
        count = sum(held)
        assert sum(map(bool, held)) == -(-count // size), "cut more often than it must be"


def test_pictures_come_in_the_order_asked_and_a_batch_takes_as_many_as_fit() -> None:
    asked = [question(number, f"{number // 11}.png") for number in range(55)]
    batches = local_model(None).batches(asked)
    assert [len(batch) for batch in batches] == [22, 22, 11]
    assert max(len(batch) for batch in batches) <= AT_ONCE
    assert [one for batch in batches for one in batch] == asked


def test_a_blind_prompt_has_no_marker() -> None:
    assert local_model(1).prompt(question(1)) == "<image>\nIs it?"
    assert local_model(1, blind=True).prompt(question(1)) == "Is it?"


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model), device="cpu", precision="fp32")


@pytest.fixture
def asked(tmp_path: Path) -> list[Question]:
    for number, colour in enumerate(("black", "white", "red")):
        Image.new("RGB", (40 + number, 30), colour).save(tmp_path / f"{number}.png")
    return [
        question(number, f"{number % 3}.png", text, tmp_path) for number, text in enumerate([*TEXTS, *TEXTS, *TEXTS])
    ]


@pytest.mark.parametrize("blind", [False, True])
def test_answers_are_those_of_each_question_alone(blind: bool, loaded: LoadedModel, asked: list[Question]) -> None:
    model = LocalModel(lambda: loaded, blind=blind, max_new_tokens=8, batch_size=None)
    found = {answer.question_id: answer for batch in model.batches(asked) for answer in model.answer(batch)}
    for one in asked:
        prompt = Prompt((Turn(speaker="human", text=model.prompt(one)),), () if blind else (open_picture(one.picture),))
        (alone,) = answer_batch(loaded, [prompt], max_new_tokens=8)
        assert found[one.id].text == alone.text
        assert found[one.id].confidence == pytest.approx(alone.confidence, abs=1e-5)


def test_a_picture_that_is_gone_is_named(loaded: LoadedModel, asked: list[Question]) -> None:
    (asked[1].picture).unlink()
    with pytest.raises(PictureError, match=r"1\.png"):
        LocalModel(lambda: loaded, blind=False, max_new_tokens=2).answer(asked)


def test_the_shelf_tells_how_it_answers_and_holds_one_model(tiny_model: Path) -> None:
    shelf = ModelShelf("cpu")
    told: list[tuple[str, Any]] = []
    shelf.on_load = lambda where, choices: told.append((where, choices["answering"]))
    first = shelf.load(str(tiny_model))
    assert shelf.load(str(tiny_model)) is first
    assert [(where, choice.value) for where, choice in told] == [(str(tiny_model), "shared prefixes")]
    any_model: Any = first.model
    any_model.generation_config.min_new_tokens = 3
    from llavamed_cli.evaluation.answerers.local_model import _how

    assert (_how(first).value, "min_new_tokens" in _how(first).reason) == ("padded batches", True)
