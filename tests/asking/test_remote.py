from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from llavamed_cli.asking import remote
from llavamed_cli.asking.remote import RemoteSession, open_remote
from llavamed_cli.errors import EndpointError
from llavamed_cli.model.decoding import Decoding
from llavamed_cli.model.images import read_picture

Open = Callable[..., RemoteSession]
KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(remote, "sleep", lambda seconds: None)
    monkeypatch.setattr(remote, "SILENCE", 1.0)


@pytest.fixture
def connect() -> Iterator[Open]:
    with ExitStack() as stack:

        def opened(server: Any, *, decoding: Decoding | None = None, system: str | None = None) -> RemoteSession:
            wanted = decoding or Decoding(max_new_tokens=32)
            return stack.enter_context(open_remote("vlm", server.url, decoding=wanted, system=system))

        yield opened


@pytest.fixture
def picture(tmp_path: Path) -> Any:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "secret name.png")
    return read_picture(tmp_path / "secret name.png")


def test_words_come_one_by_one_and_the_history_is_sent(serve: Any, connect: Open, picture: Any) -> None:
    server = serve()
    server.reply = lambda body: "It is red."
    session = connect(server, system="Be brief.")
    session.talk = session.talk.showing((picture,))
    assert list(session.ask("What is it?")) == ["It ", "is ", "red."]
    assert session.last is not None and session.last.finish == "end" and session.last.tokens == 3
    assert session.last.confidence == pytest.approx(math.exp(-0.5))
    assert session.last.yes_no is not None
    assert session.last.yes_no.yes == pytest.approx(math.exp(-0.25) / (math.exp(-0.25) + math.exp(-2.0)))
    assert "".join(session.ask("Sure?")) == "It is red."
    *_, body = server.bodies.values()
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert [part["type"] for part in body["messages"][1]["content"]] == ["image_url", "text"]
    assert body["messages"][3]["content"] == "Sure?" and body["temperature"] == 0


def test_the_first_word_is_there_before_the_last_is_made(serve: Any, connect: Open) -> None:
    server = serve()
    server.reply = lambda body: "one two three four five six seven eight"
    server.stream_seconds = 0.05
    began = time.perf_counter()
    pieces = connect(server).ask("Count.")
    next(pieces)
    first = time.perf_counter() - began
    list(pieces)
    assert first < (time.perf_counter() - began) / 2


def test_what_leaves_holds_no_header_no_name_no_key(serve: Any, connect: Open) -> None:
    server = serve()
    file = get_testdata_file("CT_small.dcm")
    session = connect(server)
    session.talk = session.talk.showing((read_picture(Path(file)),))
    list(session.ask("What is it?"))
    (body,) = server.bodies.values()
    sent = json.dumps(body) + "".join(
        value for headers in server.seen_headers for name, value in headers.items() if name != "authorization"
    )
    dataset = pydicom.dcmread(file)
    values = [
        str(item.value) for item in dataset.iterall() if item.VR not in ("OW", "OB", "SQ", "US", "DS", "IS", "CS")
    ]
    assert len([value for value in values if len(value) > 4]) > 10, "the file has nothing to hide"
    assert not [value for value in values if len(value) > 4 and value in sent]
    assert "CT_small" not in sent and KEY not in sent


def test_probabilities_that_a_server_will_not_give_are_done_without(
    serve: Any, connect: Open, openai_server: Any
) -> None:
    server = serve(
        lambda body, times: openai_server.error(400, "logprobs are not supported") if "logprobs" in body else None
    )
    server.reply = lambda body: "Yes."
    session = connect(server)
    assert "".join(session.ask("Is it?")) == "Yes."
    assert session.last is not None and session.last.confidence is None and session.last.yes_no is None


@pytest.mark.parametrize("refused", [1, 3])
def test_what_fails_before_the_first_word_is_tried_again(
    serve: Any, connect: Open, openai_server: Any, refused: int
) -> None:
    count = iter(range(10))
    server = serve(lambda body, times: openai_server.error(503, "busy") if next(count) < refused else None)
    server.reply = lambda body: "Yes."
    assert "".join(connect(server).ask("Is it?")) == "Yes."


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((401, "invalid key sk-very-secret"), r"401.*\[key\]"),
        ((404, "no such model"), "404"),
        ((500, "broken"), "500"),
        ((429, "slow down"), "429"),
    ],
)
def test_a_server_that_refuses_is_told_in_a_sentence(
    serve: Any, connect: Open, openai_server: Any, fault: Any, said: str
) -> None:
    session = connect(serve(lambda body, times: openai_server.error(*fault)))
    with pytest.raises(EndpointError, match=said) as told:
        list(session.ask("Is it?"))
    assert KEY not in str(told.value) and "paid" not in str(told.value)
    assert session.talk.turns == () and session.last is None


def test_a_page_instead_of_an_answer(serve: Any, connect: Open, openai_server: Any) -> None:
    page = openai_server.Fault(200, "<html><body>Sign in</body></html>", kind="text/html")
    with pytest.raises(EndpointError, match="an HTML page in place of a stream"):
        list(connect(serve(lambda body, times: page)).ask("Is it?"))


def test_a_server_that_hangs(serve: Any, connect: Open, openai_server: Any) -> None:
    silent = openai_server.Fault(500, {}, seconds=1.5)
    with pytest.raises(EndpointError, match="did not answer in time"):
        list(connect(serve(lambda body, times: silent)).ask("Is it?"))


def test_a_stream_that_breaks_off_keeps_what_was_said(serve: Any, connect: Open) -> None:
    server = serve()
    server.reply = lambda body: "one two three four"
    server.stream_cut = 2
    session = connect(server)
    said: list[str] = []
    with pytest.raises(EndpointError, match="broke its answer off"):
        said.extend(session.ask("Count."))
    assert session.last is not None and session.last.text == "one two" and session.last.finish == "interrupted"
    assert sum(server.sent.values()) == 1, "an answer begun is not asked for again"


def test_an_answer_that_is_stopped_stays_as_far_as_it_came(serve: Any, connect: Open) -> None:
    server = serve()
    server.reply = lambda body: "one two three four"
    session = connect(server)
    pieces = session.ask("Count.")
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert session.last is not None and session.last.text == "one" and session.last.finish == "interrupted"
    assert session.talk.turns[-1].text == "one"
