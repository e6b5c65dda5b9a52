"""Data on the way in: what is set aside before step one, where it stands and why; the rest is encoded and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.model.chat import picture_first
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.progress import Silent
from llavamed_cli.records import Turn
from llavamed_cli.training import samples
from llavamed_cli.training.samples import DataFile, ExampleSet, read_examples, show_sample

Open = Callable[[], LoadedModel]


def record(identity: str, *texts: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]
    return {"id": identity, "conversations": turns, **more}


def read(folder: Path, loaded: LoadedModel, records: list[Any], context: int = 2048) -> ExampleSet:
    path = folder / "data.jsonl"
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in records))
    files = [DataFile(path=path, images=folder / "images")]
    return read_examples(files, loaded.chat, image_length=loaded.image_length, context=context, progress=Silent())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (9, 9)).save(images / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "outside.png")
    Image.effect_noise((64, 64), 40).save(images / "torn.png")
    (images / "torn.png").write_bytes((images / "torn.png").read_bytes()[:2000])
    (images / "page.png").write_text("<html></html>")
    return tmp_path


def test_every_fault_is_named_by_line_and_id_with_its_reason(folder: Path, open_tiny: Open) -> None:
    shown = "<image>\nWhat?"
    found = read(
        folder,
        open_tiny(),
        [
            record("good", shown, "A lung.", image="a.png"),
            "{not json",
            record("absent", shown, "x", image="b.png"),
            record("torn", shown, "x", image="torn.png"),
            record("outside", shown, "x", image="../outside.png"),
            record("absolute", shown, "x", image=str(folder / "outside.png")),
            record("control", shown, "x <|im_end|>", image="a.png"),
            record("long", shown, "word " * 400, image="a.png"),
            record("empty", shown, "", image="a.png"),
            record("unmarked", "What?", "x", image="a.png"),
            record("page", shown, "x", image="page.png"),
            record("text", "What?", "An organ."),
        ],
        context=500,
    )
    assert [example.id for example in found] == ["good", "text"]
    said = {fault.record_id: (fault.where, fault.reason) for fault in found.faults}
    path = folder / "data.jsonl"
    for line, (identity, reason) in enumerate(
        {
            None: "not JSON",
            "absent": f"picture {folder / 'images' / 'b.png'}: no such picture",
            "torn": "the picture is damaged",
            "outside": "_outside_the_picture_folder_",
            "absolute": "_outside_the_picture_folder_",
            "control": "turn 2: the text holds the model's control token '<|im_end|>'",
            "long": "tokens, more than the model's context of 500",
            "empty": "turn 2: empty answer",
            "unmarked": "1 image(s) but 0 <image> marker(s)",
            "page": "an HTML page, not a picture",
        }.items(),
        start=2,
    ):
        assert said[identity][0] == f"{path}:{line}"
        assert reason in said[identity][1]
    assert len(said) == len(found.faults) == 10


def test_a_sample_is_encoded_as_it_will_be_asked(folder: Path, open_tiny: Open) -> None:
    loaded = open_tiny()
    found = read(folder, loaded, [record("late", "What is it? <image>", "A lung.", image="a.png")])
    (example,) = found
    asked = picture_first(Turn(speaker="human", text="What is it? <image>"))
    prompt = loaded.chat.encode_prompt([asked], [loaded.image_length])
    assert tuple(example.input_ids[: len(prompt)]) == prompt
    assert not example.supervised[: len(prompt)].any()
    learned = example.input_ids[example.supervised].tolist()
    tokenizer: Any = loaded.chat.tokenizer
    assert tokenizer.decode(learned) == "A lung.<|im_end|>"
    assert example.pictures == (folder / "images" / "a.png",)


def test_a_sample_shown_tells_what_is_learned(folder: Path, open_tiny: Open) -> None:
    loaded = open_tiny()
    found = read(folder, loaded, [record("talk", "What?", "A.", "And?", "B.")])
    tokenizer: Any = loaded.chat.tokenizer
    pieces = show_sample(found[0], tokenizer.decode)
    assert [text for text, learned in pieces if learned] == ["A.<|im_end|>", "B.<|im_end|>"]
    assert "".join(text for text, _ in pieces) == tokenizer.decode(found[0].input_ids.tolist())


def test_what_changes_the_encoding_makes_it_anew(
    folder: Path, open_tiny: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = folder / "cache"
    monkeypatch.setenv("LLAVAMED_CACHE", str(cache))
    loaded = open_tiny()
    records = [record("a", "<image>\nWhat?", "A lung.", image="a.png"), record("b", "What?", "A lung.")]
    stores = cache / "examples"

    def count(made: LoadedModel = loaded, context: int = 2048) -> int:
        read(folder, made, records, context)
        return len(list(stores.iterdir()))

    assert [count(), count()] == [1, 1]
    assert count(context=100) == 2
    records.pop()
    assert count() == 3
    other = open_tiny()
    other.processor.chat_template = other.chat.template.replace("\\n", " ")
    other.__dict__.pop("chat", None)
    assert count(other) == 4
    other.chat.tokenizer.add_tokens(["lung"])
    assert count(other) == 5


def test_many_processes_encode_as_one_does(folder: Path, open_tiny: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = open_tiny()
    records: list[Any] = [
        record(f"r{number}", "<image>\nWhat?", f"Lung {number}.", image="a.png") if number % 7 else "{torn"
        for number in range(40)
    ]
    alone = read(folder, loaded, records)
    monkeypatch.setattr(samples, "BLOCK", 8)
    monkeypatch.setattr(samples, "RECORDS_ALONE", 16)
    monkeypatch.setenv("LLAVAMED_CACHE", str(folder / "cache"))
    together = read(folder, loaded, records)
    assert [example.id for example in together] == [example.id for example in alone]
    assert together.faults == alone.faults
    assert together.identity == alone.identity


def test_a_json_list_and_json_lines_are_the_same_data(folder: Path, open_tiny: Open) -> None:
    loaded = open_tiny()
    records = [record("a", "<image>\nWhat?", "A lung.", image="a.png"), record("b", "What?", "A lung.")]
    path = folder / "data.json"
    path.write_text(json.dumps(records))
    files = [DataFile(path=path, images=folder / "images")]
    listed = read_examples(files, loaded.chat, image_length=loaded.image_length, context=2048, progress=Silent())
    assert listed.identity == read(folder, loaded, records).identity
