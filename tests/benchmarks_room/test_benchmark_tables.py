"""Questions in Parquet files and in data sets of the hub: columns found or named, pictures by their bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from llavamed_cli.benchmarks.open_benchmark import parse_benchmark, read_benchmark, training_answers
from llavamed_cli.benchmarks.reading import BenchmarkRead
from llavamed_cli.errors import UsageError

Make = Callable[..., Path]


def read(text: str, store: Path | None, split: Any = "test") -> BenchmarkRead:
    return read_benchmark(parse_benchmark(text, split), pictures=store, split=split, seed=0)


@pytest.fixture
def folder(tmp_path: Path, draw: Make) -> Path:
    """A data set of the hub's layout with two splits, two questions a picture."""
    for split, count in (("train", 1), ("test", 2)):
        rows = [
            {
                "image": {"bytes": draw(f"p/{split}{n}.png", n + 1).read_bytes(), "path": None},
                "sent": asked,
                "answer": answer,
                "q_lang": "en",
                "modality": "CT",
            }
            for n in range(count)
            for asked, answer in (("Is it?", "no"), ("What is it?", "a liver"))
        ]
        (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
        table = pyarrow.Table.from_pylist(rows)
        parquet.write_table(table, tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet")
    (tmp_path / "set" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    return tmp_path / "set"


def test_a_hub_data_set_is_read_by_its_splits(folder: Path, tmp_path: Path) -> None:
    test = read(f"hub:{folder}", tmp_path / "out")
    assert [(q.id, q.answer_type, q.modality, q.split) for q in test.questions] == [
        ("test-0", "closed", "CT", "test"),
        ("test-1", "open", "CT", "test"),
        ("test-2", "closed", "CT", "test"),
        ("test-3", "open", "CT", "test"),
    ]
    assert len({q.picture for q in test.questions}) == 2 and all(q.picture.is_file() for q in test.questions)
    assert test.license == "cc-by-4.0" and "4 questions on 2 pictures" in test.notes[0]
    assert len(read(f"hub:{folder}", tmp_path / "train", "train").questions) == 2
    name = parse_benchmark(f"questions:hub:{folder}")
    assert name.title == "set"
    assert training_answers(name, train=None, seed=0) == (("closed", "no"), ("open", "a liver"))
    with pytest.raises(UsageError, match="these are test questions"):
        read(f"hub:{folder}:test", tmp_path / "x", "train")
    assert not (tmp_path / "x").exists()


def test_columns_may_be_named(folder: Path, tmp_path: Path) -> None:
    file = folder / "data" / "test-00000-of-00001.parquet"
    swapped = read(f"questions:{file}?question=answer&answer=sent", tmp_path / "out")
    assert [(q.text, q.answer) for q in swapped.questions[:2]] == [("no", "Is it?"), ("a liver", "What is it?")]
    assert read(str(file), None).questions[0].text == "Is it?"
    with pytest.raises(UsageError, match="there is no column 'asked'"):
        read(f"hub:{folder}?question=asked", None)
    with pytest.raises(UsageError, match=r"Did you mean question\?"):
        parse_benchmark(f"hub:{folder}?questoin=asked")


def test_a_picture_that_is_only_named_must_lie_in_local_data(tmp_path: Path, draw: Make) -> None:
    draw("set/a.png")
    rows = [{"image": name, "question": "Is it?", "answer": "no"} for name in ("a.png", "../p.png", "/etc/passwd")]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set" / "test.parquet")
    found = read(f"questions:{tmp_path / 'set' / 'test.parquet'}", tmp_path / "out")
    assert [question.image for question in found.questions] == ["a.png"]
    assert ["lies outside" in fault.reason for fault in found.faults] == [True, True]
    assert not (tmp_path / "out").exists()


def test_an_image_folder_names_its_pictures(tmp_path: Path, draw: Make, write: Make) -> None:
    draw("set/test/a.png")
    write("set/test/metadata.jsonl", {"file_name": "a.png", "question": "Is it?", "answer": "no"})
    (question,) = read(f"hub:{tmp_path / 'set'}", tmp_path / "out").questions
    assert question.picture.is_file() and not question.image.startswith("/")
