"""PathVQA: the layouts it is found in, and pickles that would run a program."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from llavamed_cli.benchmarks.open_benchmark import parse_benchmark, picture_folder, read_benchmark, training_answers
from llavamed_cli.benchmarks.reading import BenchmarkRead
from llavamed_cli.errors import DataError, UsageError

Make = Callable[..., Path]


def read(where: Path, split: Any = "test", pictures: Path | None = None) -> BenchmarkRead:
    name = parse_benchmark(f"path-vqa:{where}", split)
    found = (pictures or where / "out") if name.file is None else picture_folder(name, pictures)
    return read_benchmark(name, pictures=found, split=split, seed=0)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("named", ["qas/test/test_qa.pkl", "qas", "."])
def test_no_pickle_is_opened(tmp_path: Path, named: str) -> None:
    file = tmp_path / "qas" / "test" / "test_qa.pkl"
    file.parent.mkdir(parents=True)
    file.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(UsageError, match="opening one runs the program in it") as told:
        parse_benchmark(f"path-vqa:{tmp_path / named}")
    assert "test_qa.json" in str(told.value)
    assert not (tmp_path / "ran").exists()
    pickle.loads(file.read_bytes())
    assert (tmp_path / "ran").exists()  # it would have run


def test_the_authors_folder_is_read_once_its_pickles_are_json(tmp_path: Path, draw: Make, write: Make) -> None:
    draw("images/test/test_0001.jpg", 1)
    draw("images/train/train_0001.jpg", 2)
    rows = [
        {"image": "test_0001", "question": "What have lost their nuclei?", "answer": "neutrophils"},
        {"image": "test_0001", "question": "Is it lung?", "answer": "yes"},
        {"image": "test_0009", "question": "Is it?", "answer": "no"},
        {"image": "../../x", "question": "Is it?", "answer": "no"},
    ]
    write("qas/test/test_qa.json", *rows)
    write("qas/train/train_qa.json", {"image": "train_0001", "question": "Is it?", "answer": "No"})
    test = read(tmp_path)
    assert [(q.id, q.answer_type, q.picture.name) for q in test.questions] == [
        ("test-0", "open", "test_0001.jpg"),
        ("test-1", "closed", "test_0001.jpg"),
    ]
    assert [fault.record_id for fault in test.faults] == ["test-2", "test-3"]
    assert "published are 6,761 questions on 858 pictures" in test.notes[0]
    assert test.notes[1].startswith("None of the 1 test pictures occurs in the training split")
    assert [q.id for q in read(tmp_path, "train").questions] == ["train-0"]
    assert training_answers(parse_benchmark(f"path-vqa:{tmp_path}"), train=None, seed=0) == (("closed", "No"),)


def test_the_weighted_form_is_read_with_its_types(tmp_path: Path, draw: Make, write: Make) -> None:
    draw("images/test_0001.jpg")
    row = {"img_id": "test_0001", "sent": "How many?", "question_id": 7}
    write(
        "test_vqa.json",
        {**row, "label": {"2": 0.3, "3": 1.0}, "answer_type": "number"},
        {**row, "question_id": 8, "label": {"yes": 1}, "answer_type": "yes/no"},
        {**row, "question_id": 9, "label": {}, "answer_type": "other"},
    )
    first, second = (found := read(tmp_path)).questions
    assert (first.id, first.answer, first.answer_type, first.question_types) == ("7", "3", "open", ("number",))
    assert (second.answer, second.answer_type, second.question_types) == ("yes", "closed", ("yes/no",))
    assert "no weighted text" in found.faults[0].reason


def test_the_re_release_is_read_and_its_pictures_are_taken_out_once(tmp_path: Path, draw: Make) -> None:
    one, two = (draw(f"p/{grey}.png", grey).read_bytes() for grey in (1, 2))
    (tmp_path / "set" / "data").mkdir(parents=True)

    def table(name: str, *pictures: bytes) -> None:
        rows = [{"image": {"bytes": data, "path": None}, "question": "Is it?", "answer": "yes"} for data in pictures]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set" / "data" / name)

    table("test-00000-of-00002.parquet", one, one)
    table("test-00001-of-00002.parquet", two, b"no picture's bytes")
    table("train-00000-of-00001.parquet", two)
    test = read(tmp_path / "set", pictures=tmp_path / "out")
    assert [question.id for question in test.questions] == ["test-0", "test-1", "test-2", "test-3"]
    first, second, third, _ = test.questions
    assert first.picture == second.picture and first.picture.read_bytes() == one
    assert third.picture.read_bytes() == two and len(list((tmp_path / "out").iterdir())) == 3
    assert "published are 6,719 questions" in test.notes[0]
    assert test.notes[1].startswith("1 of the 3 test pictures also occurs in the training split")
    assert test.license == "MIT"
    name = parse_benchmark(f"path-vqa:{tmp_path / 'set'}")
    assert training_answers(name, train=None, seed=0) == (("closed", "yes"),)
    with pytest.raises(UsageError, match="holds test questions"):
        read(tmp_path / "set" / "data" / "test-00000-of-00002.parquet", "train")


def test_what_is_no_path_vqa_is_refused(tmp_path: Path, write: Make) -> None:
    with pytest.raises(UsageError, match="no file of path-vqa's test split"):
        read(tmp_path)
    (tmp_path / "test.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(tmp_path / "test.parquet")
    parquet.write_table(pyarrow.table({"image": ["a"], "text": ["q"]}), tmp_path / "test.parquet")
    with pytest.raises(UsageError, match="no column looks like the question; there are: image, text"):
        read(tmp_path / "test.parquet")
    with pytest.raises(DataError, match="not a PathVQA file"):
        read(write("test.json", {"a": 1}))
