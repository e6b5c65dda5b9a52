"""From NAME:PATH to questions; phantoms as a benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from llavamed_cli.benchmarks.open_benchmark import parse_benchmark, picture_folder, read_benchmark, training_answers
from llavamed_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vqa_rad:x.json", "Did you mean vqa-rad:"),
        ("radiology:x", "no benchmark is called"),
        ("slake:x", "does not exist"),
        ("slake:", "expected slake:DIR or FILE"),
        ("hub:a/b/c", "no name of a data set"),
        ("hub:a/b?asks=q", "expected FIELD=NAME"),
        ("questions:x.csv", "no benchmark is called"),
        ("phantoms:none", "phantoms:N"),
        ("phantoms:0", "phantoms:N"),
        ("vqa-rad:absent.json", "does not exist"),
        ("absent.jsonl", "does not exist"),
        ("vqa-rad:", "the published JSON"),
    ],
)
def test_what_is_no_benchmark_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_benchmark(text)


def test_pictures_lie_in_images_beside_the_file_or_beside_it(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").touch()
    name = parse_benchmark(str(tmp_path / "q.jsonl"))
    assert picture_folder(name, None) == tmp_path
    (tmp_path / "images").mkdir()
    assert picture_folder(name, None) == tmp_path / "images"
    assert picture_folder(name, tmp_path / "given") == tmp_path / "given"


def test_phantoms_are_drawn_the_same_for_a_seed_and_apart_from_training(tmp_path: Path) -> None:
    name = parse_benchmark("phantoms:3")
    first = read_benchmark(name, pictures=tmp_path / "a", split="test", seed=5)
    again = read_benchmark(name, pictures=tmp_path / "b", split="test", seed=5)
    train = read_benchmark(name, pictures=tmp_path / "c", split="train", seed=5)

    def pixels(read: object) -> set[bytes]:
        return {Image.open(q.picture).tobytes() for q in read.questions}  # type: ignore[attr-defined]

    assert pixels(first) == pixels(again)
    assert not pixels(first) & pixels(train)
    assert [(q.id, q.text, q.answer) for q in first.questions] == [(q.id, q.text, q.answer) for q in again.questions]
    assert len({q.id for q in first.questions}) == len(first.questions)
    assert {q.answer_type for q in first.questions} == {"open", "closed"}
    assert "no patient" in first.notes[0]
    known = training_answers(name, train=None, seed=5)
    assert sorted(known) == sorted((q.answer_type, q.answer) for q in train.questions)
