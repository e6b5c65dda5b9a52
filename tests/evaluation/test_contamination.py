"""Which pictures training has too: by bytes, by what they show, and not at all; a split that is not here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

from llavamed_cli.benchmarks.open_benchmark import parse_benchmark, picture_folder, read_benchmark
from llavamed_cli.errors import UsageError
from llavamed_cli.evaluation.contamination import (
    TRAINING_SPLIT,
    Overlap,
    TrainingSets,
    find_overlaps,
    recorded_training,
    seen_images,
    training_pictures,
)
from llavamed_cli.progress import Silent
from llavamed_cli.records import Question


def draw(path: Path, seed: int, side: int = 192) -> Path:
    """A picture with detail, unlike any of another seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = numpy.random.default_rng(seed).integers(0, 255, (24, 24), dtype=numpy.uint8)
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(path)
    return path


def ask(*pictures: Path) -> list[Question]:
    return [
        Question(id=path.name, image=path.name, picture=path, text="?", answer="yes", answer_type="closed")
        for path in pictures
    ]


def overlap(tmp_path: Path, questions: list[Question], folder: Path) -> Overlap:
    (tmp_path / "bench.jsonl").write_text("{}")
    name = parse_benchmark(str(tmp_path / "bench.jsonl"))
    found = find_overlaps({"bench": (name, questions)}, TrainingSets(folders=(folder,)), Silent())["bench"]
    return found[-1]


def test_copies_and_changed_copies_are_found_and_others_are_not(tmp_path: Path) -> None:
    train = tmp_path / "data" / "images"
    for seed in range(10):
        draw(train / f"{seed}.png", seed)
    asked = [draw(tmp_path / "copy.png", 3), draw(tmp_path / "other.png", 77)]
    Image.open(train / "5.png").resize((150, 150)).save(tmp_path / "changed.jpg", quality=60)
    found = overlap(tmp_path, ask(*asked, tmp_path / "changed.jpg"), tmp_path / "data")
    assert (found.pictures, found.tested, found.unread) == (10, 3, 0)
    assert found.shared["copy.png"] == ("3.png", "bytes", None)
    assert found.shared["changed.jpg"][:2] == ("5.png", "picture")
    assert seen_images([found]) == {"copy.png", "changed.jpg"}
    said = found.as_json()
    assert (said["same_bytes"], said["same_picture"], said["trained_on"]) == (1, 1, str(tmp_path / "data"))


def test_broken_training_pictures_are_counted(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "a.png", 1)
    (tmp_path / "data" / "b.png").write_bytes(b"no picture")
    found = overlap(tmp_path, ask(draw(tmp_path / "x.png", 1)), tmp_path / "data")
    assert (found.pictures, found.unread, len(found.shared)) == (1, 1, 1)


def test_nothing_to_compare_with_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.png").write_bytes(b"no picture")
    found = overlap(tmp_path, ask(draw(tmp_path / "x.png", 1)), tmp_path / "data")
    assert found.not_compared is not None and "none of its pictures can be read" in found.not_compared


def test_a_training_split_that_cannot_be_read_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "bench.jsonl").write_text("")
    name = parse_benchmark(str(tmp_path / "bench.jsonl"))
    sets = TrainingSets(train=tmp_path / "nowhere.jsonl")
    (found,) = find_overlaps({"bench": (name, ask(draw(tmp_path / "x.png", 1)))}, sets, Silent())["bench"]
    assert found.trained_on == TRAINING_SPLIT and "nowhere.jsonl" in (found.not_compared or "")


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_pictures_is_refused(tmp_path: Path, made: bool) -> None:
    if made:
        (tmp_path / "data").mkdir()
    with pytest.raises(UsageError, match="pictures" if made else "no such folder"):
        training_pictures(tmp_path / "data")


def test_a_model_tells_what_it_and_its_parents_learned_from(tmp_path: Path) -> None:
    for name in ("pairs", "dialogues"):
        draw(tmp_path / name / "images" / "a.png", 1)
    data = {stage: {"path": str(tmp_path / stage / "x.jsonl")} for stage in ("pairs", "dialogues")}
    records = {
        "aligned": {"command": "align", "inputs": {"data 1": data["pairs"]}},
        "tuned": {
            "command": "tune",
            "inputs": {"model": {"path": str(tmp_path / "aligned")}, "data 1": data["dialogues"]},
        },
    }
    for name, record in records.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    assert recorded_training(tmp_path / "tuned") == [tmp_path / "dialogues", tmp_path / "pairs"]
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "run.json").write_text("[1]")
    assert recorded_training(tmp_path / "strange") == [] == recorded_training(tmp_path / "absent")


def test_vqa_rad_s_known_overlap(shared: Path) -> None:
    """202 of its 203 test pictures stand in its training split, as its own names say."""
    name = parse_benchmark(f"vqa-rad:{shared / 'data' / 'vqa_rad' / 'VQA_RAD Dataset Public.json'}")
    questions = read_benchmark(name, pictures=picture_folder(name, None), split="test", seed=0).questions
    (found,) = find_overlaps({"vqa-rad": (name, questions)}, TrainingSets(), Silent())["vqa-rad"]
    said = found.as_json()
    assert (said["pictures"], said["tested"], said["same_bytes"], said["same_picture"]) == (313, 203, 202, 0)
    assert all(one["image"] == one["training_picture"] for one in said["shared"])
