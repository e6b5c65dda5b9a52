"""SLAKE: the published files' counts, the pictures its languages share, and small files of the same form."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.benchmarks.open_benchmark import parse_benchmark, picture_folder, read_benchmark, training_answers
from llavamed_cli.benchmarks.slake import PUBLISHED, read_slake, slake_answers
from llavamed_cli.errors import DataError, UsageError

ROW: dict[str, Any] = {
    "img_id": 1,
    "img_name": "xmlab1/source.jpg",
    "question": "Is the lung healthy?",
    "answer": "No",
    "q_lang": "en",
    "location": "Lung",
    "modality": "X-Ray",
    "answer_type": "CLOSED",
    "base_type": "vqa",
    "content_type": "Abnormality",
    "triple": ["vhead", "_", "_"],
    "qid": 1,
}


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data" / "slake"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("part", "name"), [("train", "train.json.gz"), ("validation", "validate.json"), ("test", "test.json")]
)
def test_published_files_have_the_published_counts(folder: Path, language: Any, part: str, name: str) -> None:
    read = read_slake(folder / name, None, "train" if part == "train" else "test", (language,))
    counts = PUBLISHED[language, part]
    kinds = Counter(question.answer_type for question in read.questions)
    assert len(read.questions) + len(read.faults) == counts.questions
    assert len({question.image for question in read.questions}) == counts.pictures
    if (language, part) == ("en", "train"):  # its question 1622 has no answer
        (fault,) = read.faults
        assert (fault.record_id, fault.reason) == ("1622", "empty answer")
        assert kinds == {"closed": counts.closed, "open": (counts.open or 0) - 1}
    else:
        assert not read.faults and kinds == {"closed": counts.closed, "open": counts.open}
        assert any("as published" in note for note in read.notes)


def test_the_english_test_pictures_are_there_and_most_are_chinese_training_pictures(folder: Path) -> None:
    name = parse_benchmark(f"slake-en:{folder}")
    read = read_benchmark(name, pictures=picture_folder(name, None), split="test", seed=0)
    assert (len(read.questions), len(read.faults)) == (1061, 0)
    assert "English: None of the 96 test pictures occurs in the English training questions" in "\n".join(read.notes)
    assert "English: 72 of the 96 test pictures also occur in the Chinese training" in "\n".join(read.notes)
    facts = [question for question in read.questions if question.fact]
    assert len(facts) == 148 and {types for question in facts for types in question.question_types} == {"KG"}
    assert {question.modality for question in read.questions} == {"CT", "MRI", "X-Ray"}
    assert len(training_answers(name, train=None, seed=0)) == 4918


def test_absent_chinese_pictures_are_counted_by_name(folder: Path) -> None:
    read = read_slake(folder / "test.json", folder / "imgs", "test", ("zh",))
    assert (len(read.questions), len(read.faults)) == (145, 888)
    assert read.faults[0].reason == f"picture xmlab1/source.jpg is not in {folder / 'imgs'}"
    assert any("published are 1,033 questions on 96 pictures" in note for note in read.notes)


def test_one_language_is_read_or_both(draw: Callable[..., Path], write: Callable[..., Path], tmp_path: Path) -> None:
    draw("imgs/xmlab1/source.jpg")
    file = write("test.json", ROW, {**ROW, "qid": "2", "q_lang": "zh", "answer": "不是"})
    for kind, languages in (("slake", ["en", "zh"]), ("slake-en", ["en"]), ("slake-zh", ["zh"])):
        name = parse_benchmark(f"{kind}:{tmp_path}")
        assert (name.file, name.title) == (file, kind)
        read = read_benchmark(name, pictures=picture_folder(name, None), split="test", seed=0)
        assert [question.language for question in read.questions] == languages
    assert read.questions[0].split == "test"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"qid": 1}, "occurs twice"),
        ({"qid": None}, "no `id`"),
        ({"qid": True}, "no `id`"),
        ({"q_lang": "fr"}, None),
        ({"q_lang": 3}, "q_lang must be en or zh"),
        ({"img_name": "/etc/passwd"}, "lies outside"),
        ({"img_name": "../../x.jpg"}, "lies outside"),
        ({"img_name": "x" * 5000}, "is not in"),
        ({"img_name": "a\0.jpg"}, "lies outside"),
        ({"answer": ""}, "empty answer"),
        ({"answer": "\ud800"}, "surrogate"),
        ({"answer_type": None}, "OPEN or CLOSED"),
        ({"content_type": ["a"]}, "content_type must be text"),
    ],
)
def test_a_broken_record_is_named(
    draw: Callable[..., Path], write: Callable[..., Path], tmp_path: Path, change: dict[str, Any], reason: str | None
) -> None:
    draw("imgs/xmlab1/source.jpg")
    read = read_slake(write("test.json", ROW, {**ROW, "qid": 2, **change}), tmp_path / "imgs", "test")
    assert [question.id for question in read.questions] == ["1"]
    if reason is None:  # a language that was not asked for
        assert not read.faults
    else:
        (fault,) = read.faults
        assert reason in fault.reason and fault.where.endswith("test.json, record 1")


def test_test_questions_are_not_learned_from(write: Callable[..., Path], tmp_path: Path) -> None:
    write("test.json", ROW)
    with pytest.raises(UsageError, match="holds test questions"):
        read_slake(tmp_path / "test.json", None, "train")
    with pytest.raises(UsageError, match=r"no file of slake's train split"):
        parse_benchmark(f"slake:{tmp_path}", "train")
    write("train.json", {**ROW, "answer": "Yes"})
    assert slake_answers(tmp_path / "test.json") == (("closed", "Yes"),)


def test_another_part_is_scored_with_a_warning(write: Callable[..., Path]) -> None:
    note = read_slake(write("validate.json", ROW), None, "test").notes[0]
    assert note == "validate.json is the validation split by its name: a score on it is not the benchmark's."


def test_the_same_bytes_under_another_name_are_told(draw: Callable[..., Path], write: Callable[..., Path]) -> None:
    for number, grey in ((1, 9), (2, 9), (3, 80)):
        draw(f"imgs/xmlab{number}/source.png", grey)
    write("train.json", {**ROW, "img_name": "xmlab2/source.png"})
    rows = [{**ROW, "qid": number, "img_name": f"xmlab{number}/source.png"} for number in (1, 3)]
    file = write("test.json", *rows)
    notes = read_slake(file, file.parent / "imgs", "test", ("en",)).notes
    assert "English: 1 of the 2 test pictures also occurs in the English training questions" in notes[1]


@pytest.mark.parametrize("text", ["{}", "[]", '[{"a": 1}]', "[1]", "nonsense"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "test.json").write_text(text)
    with pytest.raises(DataError, match=r"test\.json"):
        read_slake(tmp_path / "test.json", None, "test")


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llavamed_cli.benchmarks.record_files.UNPACKED_LIMIT", 2**20)
    for name in ("test.json.gz", "test.jsonl.gz"):
        with gzip.open(tmp_path / name, "wb") as stream:
            stream.write(b" " * (2**20 + 1))
        with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
            read_slake(tmp_path / name, None, "test")
    (tmp_path / "test.json.gz").write_bytes(gzip.compress(b"[]")[:-4])
    with pytest.raises(DataError, match="not a whole gzip file"):
        read_slake(tmp_path / "test.json.gz", None, "test")
