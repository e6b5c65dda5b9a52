"""Where a benchmark's training questions are: never among the questions that it tests on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llavamed_cli.benchmarks.open_benchmark import parse_benchmark, training_part

RECORD = {"id": "1", "image": "a.png", "question": "Is it?", "answer": "yes"}


def write(file: Path, *records: dict[str, str]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_a_file_of_test_questions_is_not_its_own_training_part(tmp_path: Path) -> None:
    name = parse_benchmark(str(write(tmp_path / "bench.jsonl", RECORD)))
    assert training_part(name) is None
    train = write(tmp_path / "other.jsonl", RECORD)
    part = training_part(name, train)
    assert part is not None and part.place == train


@pytest.mark.parametrize("split", ["train", "test"])
def test_records_that_state_their_split_have_it_in_one_file(tmp_path: Path, split: str) -> None:
    name = parse_benchmark(str(write(tmp_path / "bench.jsonl", {**RECORD, "split": split})))
    assert training_part(name) == name


def test_the_training_file_beside_is_found(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", RECORD)
    part = training_part(parse_benchmark(str(write(tmp_path / "test.jsonl", RECORD))))
    assert part is not None and part.place == train


def test_vqa_rad_as_published_holds_both_and_a_re_split_file_one(tmp_path: Path) -> None:
    record = {"qid": 1, "image_name": "a.jpg", "question": "Is it?", "answer": "yes", "answer_type": "CLOSED"}
    files = {}
    for name, phrase in (("whole", "test_freeform"), ("mine", "freeform")):
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps([{**record, "phrase_type": phrase}]))
    assert training_part(parse_benchmark(f"vqa-rad:{files['whole']}")) is not None
    assert training_part(parse_benchmark(f"vqa-rad:{files['mine']}")) is None
