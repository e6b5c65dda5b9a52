"""The quickstart's hub reader, on a local data set of the hub copy's layout (columns image, question, answer)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from llavamed_cli.benchmarks.vqa_rad import read_vqa_rad

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "fetch_vqa_rad.py"


def fetch_module() -> Any:
    spec = importlib.util.spec_from_file_location("fetch_vqa_rad", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_hub_copy(folder: Path) -> None:
    features = datasets.Features(
        {"image": datasets.Image(), "question": datasets.Value("string"), "answer": datasets.Value("string")}
    )
    first, second = Image.new("RGB", (20, 10), "red"), Image.new("L", (10, 20), 90)
    train = {"image": [first, first, second], "question": ["a?", "b?", "c?"], "answer": ["yes", "left lung", "No"]}
    test = {"image": [second], "question": ["d?"], "answer": ["axial"]}
    for split, rows in (("train", train), ("test", test)):
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def test_what_is_fetched_is_read_as_vqa_rad(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    write_hub_copy(hub)
    out = tmp_path / "vqa-rad"
    assert fetch_module().main(out, str(hub)) == 0
    train = read_vqa_rad(out / "VQA_RAD Dataset Public.json", out / "images", "train")
    test = read_vqa_rad(out / "VQA_RAD Dataset Public.json", out / "images", "test")
    assert not train.faults and not test.faults
    assert [(q.text, q.answer, q.answer_type) for q in train.questions] == [
        ("a?", "yes", "closed"),
        ("b?", "left lung", "open"),
        ("c?", "No", "closed"),
    ]
    assert train.questions[0].picture == train.questions[1].picture != train.questions[2].picture
    assert test.questions[0].picture == train.questions[2].picture
    assert Image.open(train.questions[0].picture).getpixel((0, 0)) == (255, 0, 0)


def test_no_such_data_set_leaves_nothing(tmp_path: Path) -> None:
    assert fetch_module().main(tmp_path / "vqa-rad", str(tmp_path / "absent")) == 1
    assert not list(tmp_path.iterdir())
