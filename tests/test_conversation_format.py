"""The training-data format: every way a record may be written, every rule it may break, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.conversation_format import parse_sample, read_samples, sample_to_json
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import IMAGE_MARKER, Fault, Sample, Source, Turn


def turns(*texts: str) -> list[dict[str, Any]]:
    return [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)]


def record(*texts: str, **more: Any) -> dict[str, Any]:
    return {"id": "r", "image": "a.png", "conversations": turns(*texts), **more}


GOOD = record("<image>\nWhat is it?", "A lung.")


def test_llavas_record_becomes_a_sample() -> None:
    sample = parse_sample(
        record(
            "<image>\nWhat is it?",
            "A lung. ",
            modality="ct",
            quality=1,
            source={"kind": "jats", "pmcid": "PMC1", "version": 2, "stranger": "x"},
        )
    )
    assert sample == Sample(
        id="r",
        images=("a.png",),
        turns=(Turn(speaker="human", text="<image>\nWhat is it?"), Turn(speaker="gpt", text="A lung.")),
        modality="ct",
        quality=1.0,
        source=Source(kind="jats", pmcid="PMC1", version=2),
    )


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no conversation": ({"id": "r"}, "no conversation"),
    "empty conversation": ({"conversations": []}, "no conversation"),
    "conversation no list": ({"conversations": "hello"}, "no conversation"),
    "empty messages": ({"messages": []}, "no conversation"),
    "messages no list": ({"messages": {"role": "user"}}, "no conversation"),
    "turn no object": ({"conversations": ["hello"]}, "turn 1: expected an object"),
    "turn without value": ({"conversations": [{"from": "human"}]}, "turn 1: expected an object"),
    "message without content": ({"messages": [{"role": "user"}]}, "message 1: expected an object"),
    "no marker": (record("What is it?", "A lung."), "1 image(s) but 0 <image> marker(s)"),
    "two markers": (record("<image> <image>\nWhat?", "A lung."), "1 image(s) but 2 <image> marker(s)"),
    "marker but no image": (record("<image>\nWhat?", "A lung.", image=None), "0 image(s) but 1 <image> marker(s)"),
    "marker in an answer": (record("What?", "<image> A lung."), "turn 2: an answer holds <image>"),
    "unknown role": ({"conversations": [{"from": "doctor", "value": "x"}]}, "turn 1: unknown role 'doctor'"),
    "role no text": ({"conversations": [{"from": 3, "value": "x"}]}, "turn 1: unknown role 3"),
    "system message": ({"messages": [{"role": "system", "content": "x"}]}, "turn 1: unknown role 'system'"),
    "empty answer": (record("<image>\nWhat?", " \n"), "turn 2: empty answer"),
    "empty question": (record("<image>\nWhat?", "A lung.", "", "Yes."), "turn 3: empty question"),
    "no answer": (record("<image>\nWhat?"), "the last question has no answer"),
    "odd turns": (record("<image>\nWhat?", "A lung.", "And?"), "the last question has no answer"),
    "starts with gpt": ({"conversations": [{"from": "gpt", "value": "Hi"}]}, "turn 1: expected human, found gpt"),
    "value a list": ({"conversations": [{"from": "human", "value": ["x"]}]}, "turn 1: expected text, found list"),
    "value null": ({"conversations": [{"from": "human", "value": None}]}, "turn 1: expected text, found NoneType"),
    "value a boolean": ({"conversations": [{"from": "human", "value": True}]}, "turn 1: expected text, found bool"),
    "half a character": (record("<image>\nWhat?", "A \ud800 lung."), "turn 2: half of a surrogate pair"),
    "image no name": (record("<image>\nWhat?", "A.", image=3), "`image` must be a file name"),
    "image an empty name": (record("<image>\nWhat?", "A.", image=""), "`image` must be a file name"),
    "unknown part": (
        {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
        "message 1: a content part must have type",
    ),
    "part no object": ({"messages": [{"role": "user", "content": ["x"]}]}, "message 1: a content part must have type"),
    "picture by address": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}]},
        "message 1: a picture must be named by a file",
    ),
    "picture by its bytes": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}]},
        "message 1: a picture must be named by a file",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_set_aside_by_line_and_id_and_the_good_ones_kept(name: str, tmp_path: Path) -> None:
    broken, reason = BROKEN[name]
    broken = {"id": 17, **broken}
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in (GOOD, broken, GOOD)))
    faults: list[Fault] = []
    assert [where for where, _ in read_samples(path, faults.append)] == [f"{path}:1", f"{path}:3"]
    (fault,) = faults
    assert fault.where == f"{path}:2"
    assert fault.record_id == str(broken["id"])
    assert reason in fault.reason
    assert str(fault) == f"{path}:2 ({broken['id']}): {fault.reason}"


def test_a_line_that_is_no_json_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(f"{{oops\n{json.dumps(GOOD)}\n[]")
    faults: list[Fault] = []
    assert len(list(read_samples(path, faults.append))) == 1
    assert [fault.where for fault in faults] == [f"{path}:1", f"{path}:3"]


def test_llavas_arrays_are_read_and_their_faults_counted_from_0(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    misspelt = {"id": "m", "image": "b.png", "conversatons": turns("<image>\nWhat?", "A heart.")}
    path.write_text(json.dumps([GOOD, "text", misspelt, record("no marker", "x")]))
    faults: list[Fault] = []
    assert [(where, sample.id) for where, sample in read_samples(path, faults.append)] == [
        (f"{path}, record 0", "r"),
        (f"{path}, record 2", "m"),
    ]
    assert [fault.where for fault in faults] == [f"{path}, record 1", f"{path}, record 3"]


@pytest.mark.parametrize("content", ['{"id": 1}', '"text"', "[1, 2"])
def test_a_json_file_that_is_no_list_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"data\.json"):
        list(read_samples(path, print))


def test_a_missing_file_is_bad_usage(tmp_path: Path) -> None:
    for name in ("a.json", "a.jsonl"):
        with pytest.raises(UsageError, match="does not exist"):
            list(read_samples(tmp_path / name, print))


def test_integer_values_are_text() -> None:
    sample = parse_sample({"id": 5, "image": "a.png", "conversations": turns("<image>\nHow many?", 3)})  # type: ignore[arg-type]
    assert sample.id == "5"
    assert sample.turns[1].text == "3"


@pytest.mark.parametrize("identity", [{}, {"id": None}])
def test_a_record_without_an_id_is_known_by_its_picture(identity: dict[str, None]) -> None:
    assert parse_sample({**GOOD, "id": None, **identity}).id == "a.png"


def test_several_images_are_a_list() -> None:
    sample = parse_sample(record("<image> or <image>?", "The second.", image=["a.png", "b.png"]))
    assert sample.images == ("a.png", "b.png")


def test_chat_messages_in_openais_style() -> None:
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
    ]
    sample = parse_sample(
        {"id": "c", "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "A lung."}]}
    )
    assert sample.images == ("a.png",)
    assert sample.turns[0] == Turn(speaker="human", text="What is it?\n<image>")
    assert sample.turns[1] == Turn(speaker="gpt", text="A lung.")


@pytest.mark.parametrize(
    "message_part, beside",
    [
        ({"type": "image", "image": "a.png"}, {}),
        ({"type": "image", "path": "a.png"}, {}),
        ({"type": "image"}, {"images": ["a.png"]}),
        ({"type": "image"}, {"image": "a.png"}),
        ({"type": "image_url", "image_url": "a.png"}, {}),
    ],
)
def test_chat_messages_in_hugging_faces_styles(message_part: dict[str, str], beside: dict[str, Any]) -> None:
    messages = [
        {"role": "user", "content": [message_part, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A lung."}]},
    ]
    sample = parse_sample({"id": "c", "messages": messages, **beside})
    assert sample.images == ("a.png",)
    assert [turn.text for turn in sample.turns] == ["<image>\nWhat is it?", "A lung."]


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)
plain = words.filter(lambda text: IMAGE_MARKER not in text)
sources = st.builds(
    Source, kind=words, file=st.none() | words, line=st.none() | st.integers(1, 99), license=st.none() | words
)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    rounds = draw(st.lists(st.tuples(plain, plain), min_size=1, max_size=3))
    images = tuple(draw(st.lists(words, max_size=3)))
    said = [Turn(speaker=speaker, text=text) for pair in rounds for speaker, text in zip(("human", "gpt"), pair)]  # type: ignore[arg-type]  # noqa: B905
    if images:
        said[0] = Turn(speaker="human", text="\n".join([IMAGE_MARKER] * len(images) + [said[0].text]))
    quality = draw(st.none() | st.integers(0, 100).map(lambda part: part / 100))
    return Sample(
        id=draw(words),
        images=images,
        turns=tuple(said),
        modality=draw(st.none() | words),
        quality=quality,
        source=draw(st.none() | sources),
    )


@given(samples())
def test_a_sample_written_and_read_is_the_same(sample: Sample) -> None:
    assert parse_sample(json.loads(json.dumps(sample_to_json(sample)))) == sample
