"""Which part a file is by its name, and where its counterparts lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from llavamed_cli.benchmarks.split_files import find_part, part_of, sibling, simplest


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train.json", "train"),
        ("trainset.json", "train"),
        ("train.json.gz", "train"),
        ("data_train_v2.jsonl", "train"),
        ("validate.json", "validation"),
        ("val-00000-of-00001.parquet", "validation"),
        ("dev.jsonl", "validation"),
        ("test_w_options.json", "test"),
        ("Test-Set.json", "test"),
        ("qas/test/qa.json", "test"),
        ("contest.json", None),
        ("testing_notes.json", None),
        ("values.json", None),
        ("latest.json", None),
        ("VQA_RAD Dataset Public.json", None),
    ],
)
def test_a_name_tells_its_part_by_a_whole_word(name: str, part: str | None) -> None:
    assert part_of(Path(name)) == part


def test_counterparts_are_found_packed_or_in_folders_of_their_own(tmp_path: Path) -> None:
    for name in (
        "a/test.json",
        "a/train.json.gz",
        "a/train_extra.json",
        "b/test/test_qa.json",
        "b/train/train_qa.json",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sibling(tmp_path / "a" / "test.json", "train") == tmp_path / "a" / "train.json.gz"
    assert sibling(tmp_path / "b" / "test" / "test_qa.json", "train") == tmp_path / "b" / "train" / "train_qa.json"
    assert sibling(tmp_path / "a" / "test.json", "validation") is None


def test_pictures_are_not_searched_and_the_plain_name_is_chosen(tmp_path: Path) -> None:
    for name in ("test.json", "test_w_options.json", "imgs/test.json", "x/y/z/test.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_part(tmp_path, "test", (".json",), "it")
    assert [file.name for file in found] == ["test.json", "test_w_options.json"]
    assert simplest(found).name == "test.json"
