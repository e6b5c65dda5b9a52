"""A server's model as answerer: what is sent, what an answer is, and that nothing is asked twice."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.endpoint.asking import form_requests, open_asker
from llavamed_cli.endpoint.pacing import Patience
from llavamed_cli.errors import EndpointError
from llavamed_cli.evaluation.answer_log import answer_all
from llavamed_cli.evaluation.answerers.endpoint_model import EndpointModel, QuestionMessages
from llavamed_cli.evaluation.plan import ServerOptions
from llavamed_cli.progress import Silent
from llavamed_cli.records import Question

HURRIED = Patience(tries=3, first_wait=0.02, longest_wait=0.1, refused_for=2.0, answer=5.0)
PICTURES, EACH = 6, 3


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    """Three questions about each of six pictures of one grey each, the pictures in turn."""
    for number in range(PICTURES):
        Image.new("RGB", (8, 8), (number, number, number)).save(tmp_path / f"{number}.png")
    return [
        Question(
            id=f"{picture}-{number}",
            image=f"{picture}.png",
            picture=tmp_path / f"{picture}.png",
            text=f"Question {number}?",
            answer="yes",
            answer_type="closed",
        )
        for number in range(EACH)
        for picture in range(PICTURES)
    ]


def look(body: dict[str, Any]) -> str:
    """What a server answers that looks: the question, and the picture's grey or that there is none."""
    (message,) = body["messages"]
    if isinstance(message["content"], str):
        return f"{message['content']} unseen"
    picture, text = message["content"]
    data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    return f"{text['text']} {Image.open(io.BytesIO(data)).getpixel((0, 0))[0]}"


def model(
    server: Any, folder: Path, progress: Any = None, *, blind: bool = False, **options: Any
) -> Callable[[], EndpointModel]:
    asked = ServerOptions(name="m", base_url=server.url, **options)
    form = form_requests(asked, QuestionMessages(blind=blind), most_written=64, likely_written=8)
    progress = progress or Silent()
    opener = partial(open_asker, asked, form, folder / "journal.sqlite", progress, noun="questions", patience=HURRIED)
    return partial(EndpointModel, opener, blind=blind, max_new_tokens=64, progress=progress)


@pytest.mark.parametrize("blind", [False, True])
def test_every_question_is_asked_with_its_own_picture(
    serve: Any, tmp_path: Path, questions: list[Question], blind: bool
) -> None:
    server = serve(seconds=0.05)
    server.reply = look
    answerer = model(server, tmp_path, blind=blind)()
    (batch,) = answerer.batches(questions)
    assert sorted(one.id for one in batch) == sorted(one.id for one in questions)
    answers = list(answerer.answer(batch))
    for question, answer in zip(batch, answers, strict=True):
        seen = "unseen" if blind else question.image.removesuffix(".png")
        assert answer is not None and answer.question_id == question.id
        assert answer.text == f"{question.text} {seen}"
    assert server.most_in_flight > (2 if blind else 4)
    assert answerer.prompt(questions[0]) == ("Question 0?" if blind else "<image>\nQuestion 0?")
    for body in server.bodies.values():
        assert body["temperature"] == 0 and body["max_tokens"] == 64
        assert str(tmp_path) not in str(body)


def test_one_that_the_server_refuses_or_leaves_empty_has_no_answer(
    serve: Any, openai_server: Any, tmp_path: Path, questions: list[Question]
) -> None:
    def script(body: dict[str, Any], times: int) -> Any:
        asked = look(body)
        if asked == "Question 1? 2":
            return openai_server.error(400, "flagged", "content_filter")
        if asked == "Question 0? 3":
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": " "}}
            return openai_server.Fault(200, {"choices": [choice]})
        return None

    server, notes = serve(script), Notes()
    server.reply = look
    log = tmp_path / "log.jsonl"
    for _ in range(2):
        answers = answer_all(
            model(server, tmp_path, notes)(), questions, log, who="m", benchmark="b", progress=Silent()
        )
        assert {one.id for one in questions} - set(answers) == {"2-1", "3-0"}
    assert set(server.sent.values()) == {1}, "also one without an answer is asked once"
    assert any("1 question(s): the model refused" in note for note in notes.said)


def test_an_interrupted_log_goes_on_and_ends_the_same(serve: Any, tmp_path: Path, questions: list[Question]) -> None:
    server = serve()
    server.reply = look

    def run(folder: str) -> bytes:
        log = tmp_path / folder / "log.jsonl"
        answer_all(model(server, tmp_path / folder)(), questions, log, who="m", benchmark="b", progress=Silent())
        return log.read_bytes()

    whole = run("whole")
    log = tmp_path / "cut" / "log.jsonl"
    log.parent.mkdir()
    log.write_bytes(whole[: len(whole) // 2])
    server.sent.clear()
    assert run("cut") == whole
    assert 0 < len(server.sent) < len(questions), "what the log holds is not asked again, though the journal is new"


def test_a_server_that_dies_half_way_costs_nothing_twice(
    serve: Any, openai_server: Any, tmp_path: Path, questions: list[Question]
) -> None:
    def script(body: dict[str, Any], times: int) -> Any:
        return openai_server.error(503, "gone") if dead and len(server.charges) >= 7 else None

    dead, server, log = True, serve(script), tmp_path / "log.jsonl"
    server.reply = look
    make = model(server, tmp_path, concurrency=2)
    with pytest.raises(EndpointError, match="gave up after 3 tries") as caught:
        answer_all(make(), questions, log, who="m", benchmark="b", progress=Silent())
    assert "goes on from there" in str(caught.value)
    kept = log.read_bytes().count(b"\n")
    assert 5 <= kept <= 8
    dead = False
    assert len(answer_all(make(), questions, log, who="m", benchmark="b", progress=Silent())) == len(questions)
    assert set(server.charged().values()) == {1}


def test_a_budget_is_not_passed(serve: Any, tmp_path: Path, questions: list[Question]) -> None:
    server = serve()
    server.reply = look
    answerer = model(server, tmp_path, budget=0.2185, price=(10.0, 10.0), concurrency=2)()
    with pytest.raises(EndpointError, match=r"the budget of \$.* does not reach .* questions are left"):
        list(answerer.answer(answerer.batches(questions)[0]))
    assert 0 < server.cost(10.0, 10.0) <= 0.2185


def test_two_models_of_one_run_share_its_journal(serve: Any, tmp_path: Path, questions: list[Question]) -> None:
    server = serve()
    server.reply = look
    for blind in (False, True, False):
        answerer = model(server, tmp_path, blind=blind)()
        assert None not in list(answerer.answer(answerer.batches(questions)[0]))
    assert len(server.sent) == len(questions) + EACH, "blind, a question is the same for all pictures"
