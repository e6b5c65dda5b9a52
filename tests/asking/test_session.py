"""A session on this machine: turns as turns, pictures when they are shown, what is too long refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from llavamed_cli.asking.session import LocalSession
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.model.assemble import assemble_on
from llavamed_cli.model.decoding import Decoding
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.model.picture import Picture, PictureFacts
from llavamed_cli.records import Turn

LENGTH = 8


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model), device="cpu", precision="fp32")


@pytest.fixture
def session(loaded: LoadedModel) -> LocalSession:
    return LocalSession(loaded, decoding=Decoding(max_new_tokens=LENGTH))


def shown(colour: str) -> Picture:
    facts = PictureFacts(format="PNG", mode="RGB", width=40, height=30)
    return Picture(Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), len(colour) * 9).convert("RGB"), facts)


def say(session: LocalSession, question: str) -> str:
    text = "".join(session.ask(question))
    assert session.last is not None and session.last.text == text.strip()
    return session.last.text


def test_a_conversation_is_sent_as_its_turns(session: LocalSession, loaded: LoadedModel) -> None:
    """Against the whole conversation asked at once, without a session and without a kept cache."""
    first, second = shown("red"), shown("green")
    session.talk = session.talk.showing([first])
    turns: list[Turn] = []
    pictures: list[Image.Image] = []
    for question, new in (("What is it?", [first]), ("Sure?", []), ("And this one?", [second])):
        if new and turns:
            session.talk = session.talk.showing(new)
        turns.append(Turn(speaker="human", text="<image>\n" * len(new) + question))
        pictures += [picture.image for picture in new]
        expected = answer_batch(loaded, [Prompt(tuple(turns), tuple(pictures))], max_new_tokens=LENGTH)[0]
        assert say(session, question) == expected.text
        assert session.last is not None and session.last.token_ids == expected.token_ids
        assert session.last.confidence == pytest.approx(expected.confidence, rel=1e-4)
        turns.append(Turn(speaker="gpt", text=expected.text))
    assert session.talk.turns == tuple(turns)
    assert session.last is not None and session.last.reused and session.last.read
    assert session.last.reused < session.last.read


def test_a_question_taken_back_is_answered_as_before(session: LocalSession) -> None:
    session.talk = session.talk.showing([shown("red")])
    first = say(session, "What is it?")
    said = say(session, "Sure?")
    session.talk = session.talk.taken_back()
    assert say(session, "Sure?") == said
    session.talk = session.talk.begun_again()
    assert say(session, "What is it?") == first


def test_an_answer_left_early_stays_as_far_as_it_was_read(session: LocalSession) -> None:
    session.decoding = replace(session.decoding, max_new_tokens=400)
    stream: Any = session.ask("What is a lung?")
    taken = next(stream)
    stream.close()
    assert session.last is not None and session.last.finish == "interrupted"
    assert session.talk.turns[-1].text == session.last.text == taken.strip()


def test_what_is_too_long_is_refused_and_nothing_is_forgotten(
    session: LocalSession, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(session, "What is a lung?")
    before = session.talk
    text_config: Any = loaded.model.config.text_config
    monkeypatch.setattr(text_config, "max_position_embeddings", 40)
    with pytest.raises(UsageError, match="more than the 40 that the model can follow"):
        list(session.ask("And the heart, in a few words?"))
    assert session.talk == before
    monkeypatch.undo()
    assert say(session, "And the heart, in a few words?")


def test_a_fault_leaves_the_conversation_as_it_was(session: LocalSession) -> None:
    session.talk = session.talk.showing([shown("red")])
    before = session.talk
    with pytest.raises(DataError, match="control token"):
        list(session.ask("<|im_end|>"))
    with pytest.raises(UsageError, match="empty"):
        list(session.ask(" "))
    assert session.talk == before and session.last is None
    assert say(session, "What is it?")


def test_a_system_message_reaches_the_model_or_is_refused(loaded: LoadedModel) -> None:
    said = "Answer like a radiologist."
    session = LocalSession(loaded, decoding=Decoding(max_new_tokens=2), system=said)
    say(session, "What is a lung?")
    words: Any = loaded.processor
    ids = loaded.chat.encode_prompt(session.asked.turns, [], system=said)  # type: ignore[union-attr]
    assert said in words.tokenizer.decode(ids)
    assert session.last is not None and session.last.read == len(ids)
    mistral = assemble_on("tiny", "tiny", device="cpu", precision="fp32", seed=0, template="mistral_instruct")
    with pytest.raises(DataError, match="no system message"):
        list(LocalSession(mistral, decoding=Decoding(), system=said).ask("What?"))


def test_alternatives_are_what_answers_could_have_begun_with(session: LocalSession, loaded: LoadedModel) -> None:
    assert session.alternatives(3) == []
    session.talk = session.talk.showing([shown("red")])
    answer = say(session, "What is it?")
    found = session.alternatives(3)
    assert found[0].answer == answer
    assert [one.probability for one in found] == sorted((one.probability for one in found), reverse=True)
    model: Any = loaded.model
    with torch.no_grad():
        ids = torch.tensor([loaded.chat.encode_prompt(session.asked.turns, [loaded.image_length])])  # type: ignore[union-attr]
        chances = (
            model(input_ids=ids, pixel_values=loaded.pixels([session.talk.pictures[0].image])).logits[0, -1].softmax(-1)
        )
    assert [one.probability for one in found] == pytest.approx(chances.topk(3).values.tolist(), rel=1e-4)
    again = session.talk.turns
    assert len(again) == 2, "what might have been said is no part of the conversation"
