"""The set that training reads: its arrays against each sample's own tokens, and pictures that go while it trains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

from llavamed_cli.errors import DataError
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.progress import Silent
from llavamed_cli.training import examples as examples_module
from llavamed_cli.training.data_files import DataFile
from llavamed_cli.training.examples import ExampleSet
from llavamed_cli.training.samples import read_examples

RECORDS = {
    "one": (["a.png"], ["<image>\nWhat?", "A lung."]),
    "again": (["a.png"], ["<image>\nWhere?", "There.", "Sure?", "Yes."]),
    "two": (["a.png", "b.png"], ["<image>\n<image>\nWhich?", "The first."]),
    "other order": (["b.png", "a.png"], ["<image>\n<image>\nWhich?", "The first."]),
    "late": (["b.png"], ["Ready?", "Yes.", "<image>\nWhat?", "A heart."]),
    "words": ([], ["What?", "An organ."]),
    "lonely": (["c.png"], ["<image>\nWhat?", "A bone."]),
}


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model), device="cpu", precision="fp32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for colour, name in enumerate("abc"):
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def read(folder: Path, loaded: LoadedModel, records: list[str] | None = None) -> ExampleSet:
    path = folder / "data.jsonl"
    with path.open("w") as stream:
        for identity in records or RECORDS:
            images, texts = RECORDS.get(identity, ([], ["What?"]))
            turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]
            stream.write(json.dumps({"id": identity, "image": images, "conversations": turns}) + "\n")
    files = [DataFile(path=path, images=folder / "images")]
    return read_examples(
        files,
        loaded.chat,
        image_length=loaded.image_length,
        context=2048,
        progress=Silent(),
        cache=folder / "cache",
    )


def test_the_arrays_say_what_each_sample_holds(folder: Path, loaded: LoadedModel) -> None:
    found = read(folder, loaded)
    image = loaded.chat.image_token_id
    assert found.example_ids(range(len(found))) == [example.id for example in found] == list(RECORDS)
    for index, example in enumerate(found):
        assert found.lengths[index] == len(example.input_ids) == len(example.supervised)
        assert found.supervised[index] == example.supervised[1:].sum() > 0
        assert found.picture_counts[index] == len(example.pictures)
        assert (example.input_ids == image).sum() == len(example.pictures) * loaded.image_length
        last = max(numpy.flatnonzero(example.input_ids == image), default=-1) + 1
        assert found.prefix_lengths[index] == (0 if example.supervised[:last].any() else last)
        for other, another in enumerate(found):
            alike = example.pictures == another.pictures and bool(example.pictures)
            assert (found.picture_keys[index] == found.picture_keys[other] >= 0) == alike or index == other
    assert found.prefix_lengths[list(RECORDS).index("late")] == 0
    assert found.picture_keys[list(RECORDS).index("words")] == -1
    assert found.pictures == 3
    for array in (found.lengths, found.supervised, found.picture_counts, found.picture_keys, found.prefix_lengths):
        assert array.dtype == numpy.int64


def test_what_is_found_again_is_the_same(folder: Path, loaded: LoadedModel) -> None:
    first, second = read(folder, loaded), read(folder, loaded)
    assert len(list((folder / "cache").iterdir())) == 1
    assert first.identity == second.identity
    for one, other in zip(first, second, strict=True):
        assert (one.id, one.pictures) == (other.id, other.pictures)
        assert numpy.array_equal(one.input_ids, other.input_ids)
        assert numpy.array_equal(one.supervised, other.supervised)


def test_samples_of_a_lost_picture_are_set_aside_and_come_back_with_it(folder: Path, loaded: LoadedModel) -> None:
    whole = read(folder, loaded)
    picture = folder / "images" / "a.png"
    kept = picture.read_bytes()
    picture.unlink()
    found = read(folder, loaded)
    assert [example.id for example in found] == ["late", "words", "lonely"]
    assert [fault.record_id for fault in found.faults] == ["one", "again", "two", "other order"]
    assert {fault.reason for fault in found.faults} == {f"picture {picture}: no such picture"}
    assert [fault.where.rpartition(":")[2] for fault in found.faults] == ["1", "2", "3", "4"]
    assert (found.set_aside, found.reasons) == (4, {"picture: no such picture": 4})
    assert found.pictures == 2
    assert found.lengths.tolist() == [len(example.input_ids) for example in found]
    assert found.identity != whole.identity
    picture.write_bytes(kept)
    assert read(folder, loaded).identity == whole.identity


def test_identity_is_what_is_learned_and_not_where_it_lies(
    folder: Path, loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = read(folder, loaded)
    elsewhere = tmp_path_factory.mktemp("moved")
    (folder / "images").rename(elsewhere / "images")
    assert read(elsewhere, loaded).identity == here.identity
    Image.new("RGB", (8, 8), "red").save(elsewhere / "images" / "c.png")
    assert read(elsewhere, loaded).identity != here.identity
    assert read(elsewhere, loaded, ["one", "words"]).identity != here.identity


def test_every_fault_is_written_though_few_are_kept(
    folder: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples_module, "FAULTS_KEPT", 2)
    (folder / "images" / "c.png").unlink()
    found = read(folder, loaded, ["one", "unanswered", "lonely", "asked in vain"])
    assert [fault.record_id for fault in found.faults] == ["unanswered", "asked in vain"]
    assert found.set_aside == found.write_faults(folder / "rejected.jsonl") == 3
    written = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert written == [
        {"where": f"{folder / 'data.jsonl'}:2", "id": "unanswered", "reason": "the last question has no answer"},
        {"where": f"{folder / 'data.jsonl'}:4", "id": "asked in vain", "reason": "the last question has no answer"},
        {
            "where": f"{folder / 'data.jsonl'}:3",
            "id": "lonely",
            "reason": f"picture {folder / 'images' / 'c.png'}: no such picture",
        },
    ]
    assert found.reasons.most_common(1) == [("the last question has no answer", 2)]


def test_a_picture_that_goes_while_training_is_named_with_its_records(folder: Path, loaded: LoadedModel) -> None:
    found = read(folder, loaded)
    picture = folder / "images" / "a.png"
    found.require_pictures(range(len(found)))
    picture.touch()
    found.require_pictures(range(len(found)))
    Image.new("RGB", (8, 8), "red").save(picture)
    with pytest.raises(DataError, match="has changed since training began") as changed:
        found.require_pictures([1, 5, 6])
    assert changed.value.what.startswith(f"picture {picture}")
    assert changed.value.where == f"{folder / 'data.jsonl'}:2"
    picture.unlink()
    with pytest.raises(DataError, match="is gone since training began; it belongs to 'again', 'one', 'two' and 1 more"):
        found.require_pictures([5, 1, 0, 2, 3])
    found.require_pictures([4, 5, 6])


def test_numbers_beyond_the_set(folder: Path, loaded: LoadedModel) -> None:
    found = read(folder, loaded)
    assert found[-1].id == "lonely"
    assert [example.id for example in found[1:5:2]] == ["again", "other order"]
    for index in (7, -8):
        with pytest.raises(IndexError):
            found[index]
