"""VQA-RAD: the published file's counts and oddities, and a small file of the same form made here."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.benchmarks.reading import BenchmarkRead
from llavamed_cli.benchmarks.vqa_rad import read_vqa_rad, vqa_rad_answers
from llavamed_cli.errors import DataError, UsageError

ROW: dict[str, Any] = {
    "qid": 1,
    "phrase_type": "freeform",
    "image_name": "a.jpg",
    "image_organ": "HEAD",
    "question": "Is it normal?",
    "question_type": "ABN",
    "answer": "No",
    "answer_type": "CLOSED",
}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    Image.new("RGB", (4, 4)).save(folder / "a.jpg")
    file = folder / "rad.json"
    file.write_text(json.dumps([{**ROW, **row} for row in rows]))
    return file


def test_published_file_has_the_published_counts(shared: Path) -> None:
    folder = shared / "data" / "vqa_rad"
    test = read_vqa_rad(folder / "VQA_RAD Dataset Public.json", folder / "images", "test")
    train = read_vqa_rad(folder / "VQA_RAD Dataset Public.json", folder / "images", "train")
    assert len(train.questions) == 1797
    assert Counter(q.answer_type for q in test.questions) == {"closed": 272, "open": 179}
    assert not test.faults and not train.faults
    assert len({q.image for q in test.questions}) == 203
    assert test.notes[0].startswith("202 of the 203 test pictures")
    assert {q.phrasing for q in test.questions} == {"freeform", "para"}
    assert {t for q in train.questions for t in q.question_types} == {
        t for q in test.questions for t in q.question_types
    }
    ids = {q.id for q in (*test.questions, *train.questions)}
    assert len(ids) == 2248 and "0" in ids


def test_resplit_file_is_taken_whole(shared: Path) -> None:
    folder = shared / "data" / "vqa_rad"
    test = read_vqa_rad(folder / "mevf_split" / "testset.json", folder / "images", "test")
    original = read_vqa_rad(folder / "VQA_RAD Dataset Public.json", folder / "images", "test")

    def content(read: BenchmarkRead) -> set[tuple[str, str, str, str]]:  # MEVF numbered the questions anew
        return {(q.image, q.text.lower(), q.answer.lower(), q.answer_type) for q in read.questions}

    assert content(test) == content(original)
    assert len(test.questions) == len(original.questions)
    assert "taken as the test split" in test.notes[0]
    assert len(vqa_rad_answers(folder / "mevf_split" / "trainset.json", is_train=True)) == 3064
    assert vqa_rad_answers(folder / "mevf_split" / "testset.json", is_train=False) == ()


def test_oddities_are_read_as_what_they_mean(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {"qid": "0", "phrase_type": "test_freeform", "answer": 4, "answer_type": "CLOSED "},
        {"qid": 2, "phrase_type": "test_para", "answer": " lungs \tbone", "answer_type": "OPEN", "question": " Q?\tx "},
        {"qid": 3, "phrase_type": "test_para", "question_type": "PRSE, ATRIB"},
        {"qid": 4},
    )
    read = read_vqa_rad(file, tmp_path, "test")
    first, second, third = read.questions
    assert (first.id, first.answer, first.answer_type) == ("0", "4", "closed")
    assert (second.answer, second.text, second.phrasing) == ("lungs bone", "Q? x", "para")
    assert third.question_types == ("ATTRIB", "PRES")
    assert [q.id for q in read_vqa_rad(file, tmp_path, "train").questions] == ["4"]
    assert vqa_rad_answers(file, is_train=False) == (("closed", "No"),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_name": "b.jpg"}, "b.jpg is not in"),
        ({"image_name": "../a.jpg"}, "lies outside"),
        ({"image_name": None}, "names no picture"),
        ({"answer": " "}, "empty answer"),
        ({"answer": None}, "answer must be text"),
        ({"question": ""}, "empty question"),
        ({"question": "<image>"}, "empty question"),
        ({"answer_type": "MAYBE"}, "answer_type must be"),
        ({"qid": 1}, "occurs twice"),
    ],
)
def test_broken_record_is_named_and_the_good_ones_kept(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    file = write(tmp_path, {}, {"qid": 2, **change})
    read = read_vqa_rad(file, tmp_path, "test")
    assert [q.id for q in read.questions] == ["1"]
    (fault,) = read.faults
    assert reason in fault.reason
    assert fault.where == f"{file}, record 1"


@pytest.mark.parametrize("text", ["[]", "{}", "[1]", '[{"a": 1}]', "nonsense"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_vqa_rad(file, tmp_path, "test")


def test_absent_file_and_absent_folder_are_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_vqa_rad(tmp_path / "none.json", tmp_path, "test")
    file = write(tmp_path, {})
    with pytest.raises(UsageError, match="--images"):
        read_vqa_rad(file, tmp_path / "none", "test")
