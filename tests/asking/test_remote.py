from __future__ import annotations

import base64
import io
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy
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
PATIENT = "DOE^JANE^ZZQX"


class Notes:
    """A `Progress` that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def bar(self, label: str, total: int | None, done: int = 0) -> Any:
        raise AssertionError("no bar while one asks")


def chunk(content: Any = None, *, ended: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    """A chunk of a stream as servers send them."""
    choice = {"index": 0, "delta": {"content": content, **delta}, "finish_reason": ended, "logprobs": logprobs}
    return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "vlm", "choices": [choice]}


def sure(token: Any, logprob: Any, top: Any = ()) -> dict[str, Any]:
    """A chunk's log-probabilities."""
    return {"content": [{"token": token, "logprob": logprob, "bytes": None, "top_logprobs": top}]}


END = chunk(ended="stop")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(remote, "sleep", lambda seconds: None)
    monkeypatch.setattr(remote, "SILENCE", 1.0)


@pytest.fixture
def connect() -> Iterator[Open]:
    with ExitStack() as stack:

        def opened(server: Any, *, model: str = "vlm", decoding: Decoding | None = None, **named: Any) -> RemoteSession:
            named = {"system": None, **named, "decoding": decoding or Decoding(max_new_tokens=32)}
            return stack.enter_context(open_remote(model, server.url, **named))

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


def header_values(dataset: pydicom.Dataset) -> list[str]:
    """A DICOM's values that no request holds by chance: text of five signs or more, and each part of a name."""
    found = []
    for item in dataset.iterall():
        if item.VR not in ("OW", "OB", "OB or OW", "SQ"):
            values = item.value if item.VM > 1 else [item.value]
            found += [str(value) for value in values] + str(item.value).split("^")
    return sorted({value for value in found if len(value) >= 5})


def pictures_of(body: dict[str, Any]) -> list[bytes]:
    """The files in a request, decoded."""
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    urls = [part["image_url"]["url"] for content in contents for part in content if part["type"] == "image_url"]
    return [base64.b64decode(url.partition(",")[2], validate=True) for url in urls]


def test_what_leaves_holds_no_header_no_name_no_key(
    serve: Any, connect: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.PatientName, dataset.PatientID, dataset.StudyDescription = PATIENT, "ID-ZZQX-77", "FOLLOW UP ZZQX"
    dataset.save_as(tmp_path / "zzqx scan.dcm")
    exif = Image.Exif()
    exif[0x010E] = PATIENT  # ImageDescription
    Image.new("RGB", (20, 10), "red").save(tmp_path / "zzqx photo.jpg", exif=exif, comment=PATIENT)
    shown = tuple(read_picture(tmp_path / name) for name in ("zzqx scan.dcm", "zzqx photo.jpg"))
    values = header_values(dataset)
    assert len(values) > 40 and {PATIENT, "ID-ZZQX-77", dataset.SOPInstanceUID} <= set(values)
    server = serve()
    session = connect(server)
    session.talk = session.talk.showing(shown)
    with caplog.at_level(logging.DEBUG):
        list(session.ask("What is it?"))
        list(session.ask("Sure?"))

    assert len(server.wire) == 2
    for sent in server.wire:
        head, _, body = sent.partition(b"\n\n")
        files = pictures_of(json.loads(body))
        assert len(files) == 2
        for file, picture in zip(files, shown, strict=True):
            opened = Image.open(io.BytesIO(file))
            assert numpy.array_equal(numpy.asarray(opened), numpy.asarray(picture.image.convert("RGB")))
            assert not opened.info and not opened.getexif(), "the pixels alone"
        words = json.loads(body)
        for message in words["messages"]:
            if isinstance(message["content"], list):
                message["content"] = [part for part in message["content"] if part["type"] == "text"]
        for place in (head, json.dumps(words).encode(), *files):
            assert not [value for value in values if value.encode() in place]
            assert b"zzqx" not in place.lower() and str(tmp_path).encode() not in place
        (told,) = (line for line in head.splitlines() if KEY.encode() in line)
        assert told.lower() == f"authorization: bearer {KEY}".encode()
        assert KEY.encode() not in body
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "/chat/completions" in logged, "else nothing was logged that could tell"
    assert KEY not in logged and "zzqx" not in logged.lower()


def test_a_picture_is_not_carried_on_to_another_address(serve: Any, connect: Open, openai_server: Any) -> None:
    other = serve()
    to = {"Location": f"{other.url}/chat/completions"}
    for status in (301, 302, 307, 308):
        server = serve(lambda body, times, status=status: openai_server.Fault(status, {}, to))
        with pytest.raises(EndpointError, match=f"{status}(.|\n)*not followed"):
            list(connect(server).ask("Is it?"))
        assert len(server.wire) == 1
    assert not other.wire


@pytest.mark.parametrize(
    ("refusal", "does_without", "keeps"),
    [
        ((400, "logprobs are not supported"), "logprobs", "stream_options"),
        ((403, "You are not allowed to request logprobs from this model"), "logprobs", "stream_options"),
        ((400, "Unknown parameter: 'stream_options'."), "stream_options", "logprobs"),
    ],
)
def test_what_a_server_will_not_tell_is_done_without(
    serve: Any, connect: Open, openai_server: Any, refusal: Any, does_without: str, keeps: str
) -> None:
    server = serve(lambda body, times: openai_server.error(*refusal) if does_without in body else None)
    server.reply = lambda body: "Yes."
    session = connect(server)
    assert "".join(session.ask("Is it?")) == "".join(session.ask("Sure?")) == "Yes."
    assert session.last is not None and (session.last.confidence is None) == (does_without == "logprobs")
    assert [does_without in body for body in map(body_of, server.wire)] == [True, False, False], "learnt once"
    assert all(keeps in body for body in map(body_of, server.wire))


def test_a_server_that_names_nothing_is_asked_for_the_answer_alone(
    serve: Any, connect: Open, openai_server: Any
) -> None:
    unnamed = openai_server.Fault(422, {"detail": [{"type": "extra_forbidden"}]})
    server = serve(lambda body, times: unnamed if {"logprobs", "stream_options"} & set(body) else None)
    server.reply = lambda body: "Yes."
    assert "".join(connect(server).ask("Is it?")) == "Yes."
    assert set(body_of(server.wire[-1])) == {"model", "messages", "max_tokens", "temperature", "stream"}


def body_of(sent: bytes) -> dict[str, Any]:
    """The body of a request as it was sent."""
    return dict(json.loads(sent.partition(b"\n\n")[2]))


def test_drawing_is_asked_for_as_it_was_typed(serve: Any, connect: Open) -> None:
    server = serve()
    decoding = Decoding(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=7)
    list(connect(server, decoding=decoding).ask("Is it?"))
    body = body_of(server.wire[0])
    assert (body["temperature"], body["top_p"], body["seed"], body["max_tokens"]) == (0.5, 0.9, 7, 9)


def test_a_model_that_thinks_has_room_for_it(serve: Any, connect: Open) -> None:
    server = serve()
    list(connect(server, model="gpt-5", decoding=Decoding(max_new_tokens=9)).ask("Is it?"))
    body = body_of(server.wire[0])
    assert body["max_completion_tokens"] > 1000 and not {"temperature", "logprobs", "max_tokens"} & set(body)


def test_thoughts_are_no_part_of_the_answer(serve: Any, connect: Open) -> None:
    server = serve()
    words = chunk("Yes", logprobs=sure("Yes", -0.1, [{"token": "Yes", "logprob": -0.1, "bytes": None}]))
    usage = {**END, "choices": [], "usage": {"prompt_tokens": 600, "completion_tokens": 3, "total_tokens": 603}}
    server.events = lambda body: [chunk(reasoning_content="no", logprobs=sure("no", -3.0)), words, END, usage]
    session = connect(server)
    assert list(session.ask("Is it?")) == ["Yes"]
    assert session.last is not None and session.last.confidence == pytest.approx(math.exp(-0.1))
    assert (session.last.tokens, session.last.read) == (1, 600)
    assert session.last.yes_no is not None and session.last.yes_no.yes == 1


def test_tokens_are_the_servers_count_where_it_tells_no_probabilities(serve: Any, connect: Open) -> None:
    server = serve()
    usage = {**END, "choices": [], "usage": {"prompt_tokens": 600, "completion_tokens": 3, "total_tokens": 603}}
    server.events = lambda body: [chunk("It is"), chunk(" red"), END, usage]
    session = connect(server)
    list(session.ask("What is it?"))
    assert session.last is not None and (session.last.tokens, session.last.confidence) == (3, None)


def test_a_marker_in_a_servers_answer_is_only_a_word(serve: Any, connect: Open, picture: Any) -> None:
    server = serve()
    server.reply = lambda body: "See <image> here."
    session = connect(server)
    session.talk = session.talk.showing((picture,))
    list(session.ask("What is it?"))
    assert "".join(session.ask("Sure?")) == "See <image> here."
    assert body_of(server.wire[1])["messages"][1] == {"role": "assistant", "content": "See <image> here."}


def test_each_picture_is_where_its_turn_is(serve: Any, connect: Open, picture: Any, tmp_path: Path) -> None:
    server = serve()
    Image.new("RGB", (7, 5), "blue").save(tmp_path / "blue.png")
    blue = read_picture(tmp_path / "blue.png")
    session = connect(server)
    session.talk = session.talk.showing((picture, blue))
    list(session.ask("First <image>, then <image>: what changed?"))
    session.talk = session.talk.showing((picture,))
    list(session.ask("And now?"))
    first, _, second = body_of(server.wire[1])["messages"]
    kinds = [part.get("text", "picture") for part in first["content"]]
    assert kinds == ["First", "picture", ", then", "picture", ": what changed?"]
    assert [part.get("text", "picture") for part in second["content"]] == ["picture", "And now?"]
    sizes = [Image.open(io.BytesIO(file)).size for file in pictures_of(body_of(server.wire[1]))]
    assert sizes == [(20, 10), (7, 5), (20, 10)]


def test_what_utf8_cannot_hold_is_asked_and_told_all_the_same(serve: Any, connect: Open) -> None:
    server = serve()
    server.events = lambda body: [b'{"id":"1","choices":[{"index":0,"delta":{"content":"a\\udc80b"}}]}', END]
    assert "".join(connect(server, system="\udc80").ask("Is it \udc80?")) == "a?b"


NOT_CHUNKS = [
    [1, 2],
    "words",
    None,
    {"choices": None},
    {"choices": "abc"},
    {"choices": {"a": 1}},
    {"choices": [None]},
    {"choices": [{"delta": "abc"}]},
    {"choices": [], "usage": {"prompt_tokens": "many", "completion_tokens": -1}},
    chunk(5),
    chunk([{"type": "text", "text": "hi"}]),
    chunk(ended=None, logprobs="none"),
    chunk(ended=None, logprobs={"content": ["a", None, 3]}),
    *(chunk(logprobs=sure("a", value)) for value in (None, "x", True, 1e5, float("nan"))),
    chunk(logprobs=sure(None, -1.0)),
    chunk(logprobs={"content": None, "tokens": ["a"], "token_logprobs": [-1.0]}),
]


@pytest.mark.parametrize("garbage", NOT_CHUNKS)
def test_what_is_no_chunk_says_nothing(serve: Any, connect: Open, garbage: Any) -> None:
    server = serve()
    server.events = lambda body: [garbage, chunk("Yes", logprobs=sure("Yes", -0.5, ["x", {"token": None}])), END]
    session = connect(server)
    assert list(session.ask("Is it?")) == ["Yes"]
    assert session.last is not None and session.last.finish == "end" and session.last.yes_no is None
    assert session.last.confidence == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([chunk(ended="content_filter")], "refused to answer"),
        ([chunk(refusal="I \x1b[2Jcannot."), END], r"refused to answer: I \[2Jcannot\."),
        (
            [chunk(reasoning_content="hm"), chunk(ended="length")],
            "32 tokens before it said a word(.|\n)*--max-new-tokens",
        ),
        ([chunk(" \n"), END], "no words"),
        ([END], "no words"),
        ([{"error": {"message": f"bad \x1b[2J {KEY}", "code": 400}}], r"bad \[2J \[key\]"),
    ],
)
def test_an_answer_without_a_word_is_paid_for_once(serve: Any, connect: Open, events: Any, said: str) -> None:
    server = serve()
    server.events = lambda body: events
    session = connect(server)
    with pytest.raises(EndpointError, match=said) as told:
        list(session.ask("Is it?"))
    assert len(server.wire) == 1 and "\x1b" not in str(told.value) and KEY not in str(told.value)
    assert session.last is None and session.talk.turns == ()


def test_a_try_leaves_nothing_behind_for_the_next(serve: Any, connect: Open) -> None:
    tries = iter(
        [
            [chunk("", logprobs=sure("no", -9.0)), {"error": {"message": "overloaded", "code": 503}}],
            [chunk("one "), chunk("two")],
        ]
    )
    server = serve()
    server.events = lambda body: next(tries)
    notes = Notes()
    session = connect(server, progress=notes)
    with pytest.raises(EndpointError, match="broke its answer off"):
        list(session.ask("Count."))
    assert session.last is not None and (session.last.text, session.last.finish) == ("one two", "interrupted")
    assert session.last.confidence is None
    assert len(notes.notes) == 1 and "overloaded; asking again in 1 s" in notes.notes[0]


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


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (("<html><body>Sign in</body></html>", "text/html"), "an HTML page in place of a stream(.|\n)*/v1"),
        (('{"choices": []}', "application/json; charset=utf-8"), "in place of a stream"),
        (("", "text/plain"), "an empty body in place of a stream"),
    ],
)
def test_a_page_instead_of_an_answer(
    serve: Any, connect: Open, openai_server: Any, page: tuple[str, str], said: str
) -> None:
    server = serve(lambda body, times: openai_server.Fault(200, f" {page[0]}", kind=page[1]))
    with pytest.raises(EndpointError, match=said):
        list(connect(server).ask("Is it?"))
    assert len(server.wire) == 1


def test_a_server_that_hangs_is_waited_for_once(
    serve: Any, connect: Open, openai_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SILENCE", 0.2)
    monkeypatch.setattr(remote, "PATIENCE", 0.1)
    server = serve(lambda body, times: openai_server.Fault(500, {}, seconds=0.5))
    with pytest.raises(EndpointError, match="did not answer in time"):
        list(connect(server).ask("Is it?"))
    assert len(server.wire) == 1


def test_a_server_that_falls_silent_half_way(serve: Any, connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENCE", 0.2)
    server = serve()
    server.events = lambda body: [chunk("It is"), 0.5, chunk(" red"), END]
    session = connect(server)
    with pytest.raises(EndpointError, match="did not answer in time"):
        list(session.ask("What is it?"))
    assert session.last is not None and session.last.text == "It is" and len(server.wire) == 1


@pytest.mark.parametrize("torn", [b"{nope", b'{"\xff\xfe'])
def test_a_stream_that_is_no_json(serve: Any, connect: Open, torn: bytes) -> None:
    server = serve()
    server.events = lambda body: [torn]
    with pytest.raises(EndpointError, match="broke its answer off"):
        list(connect(server).ask("Is it?"))
    assert len(server.wire) == remote.TRIES


def test_a_longer_wait_than_anybody_waits_is_told(serve: Any, connect: Open, openai_server: Any) -> None:
    server = serve(lambda body, times: openai_server.error(429, "slow down", retry_after="120"))
    with pytest.raises(EndpointError, match=r"429: slow down \(it asks to wait 120 s\)"):
        list(connect(server).ask("Is it?"))
    assert len(server.wire) == 1


def test_a_conversation_that_is_too_long_is_refused(serve: Any, connect: Open, openai_server: Any) -> None:
    long = openai_server.error(400, "This model's maximum context length is 2048 tokens", "context_length_exceeded")
    server = serve(lambda body, times: long)
    with pytest.raises(EndpointError, match=r"2048 tokens(.|\n)*/reset"):
        list(connect(server).ask("Is it?"))
    assert len(server.wire) == 1


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


@pytest.mark.parametrize(
    ("misbehave", "said", "printed"),
    [
        ((401, "bad key"), "401", ""),
        ((404, "no such model"), "404", ""),
        ((429, "slow down"), "429", ""),
        ("page", "an HTML page in place of a stream", ""),
        ("cut", "broke its answer off", "one two "),
    ],
)
def test_on_the_command_line_a_fault_is_a_sentence_and_exit_code_1(
    serve: Any, llavamed: Any, openai_server: Any, tmp_path: Path, misbehave: Any, said: str, printed: str
) -> None:
    Image.new("RGB", (8, 8), "white").save(tmp_path / "white.png")
    faults = {"page": openai_server.Fault(200, "<html>", kind="text/html"), "cut": None}
    fault = faults[misbehave] if isinstance(misbehave, str) else openai_server.error(*misbehave)
    server = serve(lambda body, times: fault)
    server.reply, server.stream_cut = (lambda body: "one two three"), 2
    outcome = llavamed("ask", tmp_path / "white.png", "Count.", "--model", "vlm", "--base-url", server.url)
    assert (outcome.code, outcome.stdout.rstrip("\n")) == (1, printed)
    assert said in outcome.stderr and "bug in llavamed" not in outcome.stderr and KEY not in outcome.stderr
