"""build-data from every form of a benchmark: its training questions, never a test question, nor a tested picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

Make = Callable[..., Path]
SLAKE: dict[str, Any] = {
    "question": "What diseases are included in the picture?",
    "answer": "Pneumonia",
    "q_lang": "en",
    "location": "Lung",
    "modality": "X-Ray",
    "answer_type": "OPEN",
    "base_type": "vqa",
    "content_type": "Abnormality",
    "triple": ["vhead", "_", "_"],
}


@pytest.fixture
def noise(tmp_path: Path) -> Make:
    """Save a picture of noise, which has a hash of its own."""

    def save(name: str, seed: int) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numpy.random.default_rng(seed).integers(0, 255, (40, 40), dtype=numpy.uint8)).save(file)
        return file

    return save


def write(file: Path, records: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record) for record in records]
    file.write_text("\n".join(lines) if file.suffix == ".jsonl" else f"[{','.join(lines)}]")
    return file


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def slake(tmp_path: Path, noise: Make) -> Path:
    """A SLAKE whose Chinese test picture is an English training picture."""
    for number in (1, 2, 3):
        noise(f"slake/imgs/xmlab{number}/source.png", number)
    rows = [{**SLAKE, "qid": number, "img_name": f"xmlab{number}/source.png"} for number in (1, 2, 3)]
    write(tmp_path / "slake" / "train.json", rows[:2])
    write(tmp_path / "slake" / "test.json", [rows[2], {**rows[1], "qid": 9, "q_lang": "zh", "answer": "x"}])
    return tmp_path / "slake"


def test_what_a_benchmark_tests_on_can_be_left_out(llavamed: Any, slake: Path, tmp_path: Path) -> None:
    whole = llavamed("build-data", f"slake:{slake}", "--split", "train", "--out", tmp_path / "whole")
    assert whole.code == 0 and len(lines(tmp_path / "whole" / "instruct.jsonl")) == 2
    out = tmp_path / "out"
    done = llavamed("build-data", f"slake:{slake}", "--exclude", f"slake:{slake}", "--out", out)
    assert done.code == 0, done.stderr
    (sample,) = lines(out / "instruct.jsonl")
    assert sample["id"] == "slake-xmlab1-source-asked" and sample["source"]["license"] == "CC BY"
    (caption,) = lines(out / "align.jsonl")
    assert caption["conversations"][1]["value"] == "Chest X-ray. Findings: Pneumonia."
    (rejected,) = lines(out / "rejected.jsonl")
    assert rejected["reason"] == "picture of an excluded set" and "xmlab2" in rejected["detail"]
    assert "--exclude slake:" in (out / "run.json").read_text()
    again = llavamed("build-data", f"slake:{slake}", "--exclude", f"slake:{slake}", "--out", out)
    assert again.code == 0 and "built already" in again.stderr


def test_both_languages_may_be_given_apart(llavamed: Any, slake: Path, tmp_path: Path) -> None:
    done = llavamed("build-data", f"slake-en:{slake}", f"slake-zh:{slake}", "--out", tmp_path / "out")
    assert done.code == 0, done.stderr
    twice = llavamed("build-data", f"slake-en:{slake}", f"slake-en:{slake}", "--out", tmp_path / "twice")
    assert twice.code == 2 and "given twice" in twice.stderr


def test_pictures_in_tables_are_taken_out_and_captions_are_said_to_be_absent(
    llavamed: Any, noise: Make, tmp_path: Path
) -> None:
    pictures = [noise(f"p/{seed}.png", seed).read_bytes() for seed in (1, 2)]
    rows = [
        {"image": {"bytes": data, "path": None}, "question": asked, "answer": "yes"}
        for data in pictures
        for asked in ("Is it?", "Is it not?")
    ]
    (tmp_path / "set" / "data").mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "set" / "data" / "train-0.parquet")
    for source in (f"path-vqa:{tmp_path / 'set'}", f"questions:hub:{tmp_path / 'set'}"):
        out = tmp_path / source.split(":")[0]
        done = llavamed("build-data", source, "--out", out)
        assert done.code == 0, done.stderr
        assert "No captions are composed" in done.stderr
        assert (out / "align.jsonl").read_text() == ""
        samples = lines(out / "instruct.jsonl")
        assert len(samples) == 2 and all(len(sample["conversations"]) == 4 for sample in samples)
        assert {sample["source"]["kind"] for sample in samples} == {"path-vqa" if "path" in source else "hub"}
        assert not (out / ".scratch").exists() and len(list((out / "images").iterdir())) == 2


@pytest.mark.parametrize("name", ["llava-med-vqa", "questions", "path-vqa", "vqa-rad", "slake"])
def test_test_questions_are_refused(llavamed: Any, tmp_path: Path, name: str) -> None:
    conversation = [{"from": "human", "value": "Is it?\n<image>"}, {"from": "gpt", "value": "no"}]
    row = {"id": 1, "image": "a.png", "question": "Is it?", "answer": "no", "conversations": conversation}
    file = write(tmp_path / "testset.json", [{**row, "image_name": "a.png", "img_name": "a.png"}])
    done = llavamed("build-data", f"{name}:{file}", "--images", tmp_path, "--out", tmp_path / "out")
    assert done.code == 2 and "holds test questions" in done.stderr, done.stderr


def test_the_chat_questions_are_refused(llavamed: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "qa50.jsonl", [{"question_id": 1, "text": "Is it?", "fig_caption": "It."}])
    done = llavamed("build-data", f"llava-med-chat:{file}", "--out", tmp_path / "out")
    assert done.code == 2 and "none to learn from" in done.stderr


def test_records_that_state_their_split_share_a_file(llavamed: Any, noise: Make, tmp_path: Path) -> None:
    noise("a.png", 1)
    row = {"image": "a.png", "question": "Is it?", "answer": "no"}
    parts = ["train", "test", "val", "training", "?"]
    file = write(tmp_path / "all.jsonl", [{**row, "id": part, "split": part} for part in parts])
    done = llavamed("build-data", f"questions:{file}", "--out", tmp_path / "out")
    assert done.code == 0, done.stderr
    (sample,) = lines(tmp_path / "out" / "instruct.jsonl")
    assert len(sample["conversations"]) == 4
    (rejected,) = lines(tmp_path / "out" / "rejected.jsonl")
    assert "split must be" in rejected["detail"]
    scored = llavamed("eval", "majority", "--on", file, "--missing", "skip", "--out", tmp_path / "e", "--json")
    assert scored.code == 0, scored.stderr
    assert json.loads(scored.stdout)["benchmarks"]["all"]["n"] == 1
