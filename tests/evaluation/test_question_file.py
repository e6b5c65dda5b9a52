"""Questions written and read again are the same, and `--on FILE.jsonl` reads them too."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from llavamed_cli.benchmarks.jsonl import read_jsonl_benchmark
from llavamed_cli.errors import DataError
from llavamed_cli.evaluation.question_file import read_written_questions, write_questions
from llavamed_cli.records import Question

NAMES = strategies.text("abcé肺-", min_size=1, max_size=8)
QUESTIONS = strategies.builds(
    Question,
    id=NAMES,
    image=NAMES,
    picture=strategies.just(Path()),
    text=NAMES,
    answer=NAMES,
    answer_type=strategies.sampled_from(["open", "closed"]),
    question_types=strategies.lists(NAMES, max_size=3, unique=True).map(lambda names: tuple(sorted(names))),
    modality=NAMES | strategies.none(),
    organ=NAMES | strategies.none(),
    phrasing=strategies.sampled_from([None, "para"]),
    language=strategies.sampled_from(["en", "zh"]),
    choices=strategies.lists(NAMES, max_size=3).map(tuple),
)
FIELDS = ("id", "image", "text", "answer", "answer_type", "question_types", "modality", "organ", "language")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(questions=strategies.lists(QUESTIONS, min_size=1, max_size=4, unique_by=lambda question: question.id))
def test_what_is_written_is_read_again(tmp_path: Path, questions: list[Question]) -> None:
    write_questions(tmp_path, "bench", questions)
    again = read_written_questions(tmp_path, "bench")
    for name in (*FIELDS, "phrasing", "choices"):
        assert [getattr(one, name) for one in again] == [getattr(one, name) for one in questions]
    benchmark = read_jsonl_benchmark(tmp_path / "questions" / "bench.jsonl", None)
    for name in FIELDS:
        assert [getattr(one, name) for one in benchmark.questions] == [getattr(one, name) for one in questions]


@pytest.mark.parametrize("line", ['{"id": "1"}', '{"id": 1}', "nonsense", '{"answer_type": []}'])
def test_a_damaged_file_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "bench.jsonl").write_text(line + "\n")
    with pytest.raises(DataError) as fault:
        read_written_questions(tmp_path, "bench")
    assert "bench.jsonl:1" in str(fault.value)


def test_an_absent_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not say what was asked"):
        read_written_questions(tmp_path, "bench")
