"""`llavamed eval compare A B`: the same numbers as one run of both, and every folder that cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """40 questions about 20 pictures, and two files of answers."""
    questions, ours, theirs = [], [], []
    for number in range(40):
        image = f"{number // 2}.png"
        Image.new("L", (4, 4), number).save(tmp_path / image)
        answer = ("yes", "left lung")[number % 2]
        questions.append({"id": str(number), "image": image, "question": f"Is it {number}?", "answer": answer})
        ours.append({"question_id": str(number), "text": answer if number % 5 else "no"})
        theirs.append({"question_id": str(number), "text": answer if number % 3 else "no lung"})
    for name, records in (("bench", questions), ("ours", ours), ("theirs", theirs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path / "bench.jsonl"


def evaluate(llavamed: Run, bench: Path, out: str, *names: str, more: tuple[object, ...] = ()) -> Path:
    whos = [f"answers:{bench.parent / name}.jsonl" for name in names]
    outcome = llavamed("eval", *whos, "--on", bench, "--out", bench.parent / out, *more)
    assert outcome.code == 0, outcome.stderr
    return bench.parent / out


def test_two_folders_give_what_one_run_gives(llavamed: Run, bench: Path) -> None:
    together = evaluate(llavamed, bench, "both", "ours", "theirs")
    first, second = evaluate(llavamed, bench, "a", "ours"), evaluate(llavamed, bench, "b", "theirs")
    outcome = llavamed("eval", "compare", first, second, "--json")
    compared = json.loads(outcome.stdout)["benchmarks"]["bench"]
    expected = json.loads((together / "scores.json").read_text())["benchmarks"]["bench"]
    (difference,), (known,) = compared["differences"], expected["differences"]
    assert {name: difference[name] for name in ("overall", "open", "closed")} == {
        name: known[name] for name in ("overall", "open", "closed")
    }
    assert compared["answerers"]["a/answers:ours.jsonl"] == expected["answerers"]["answers:ours.jsonl"]
    assert difference["right"] == {"both": 21, "first": 11, "second": 5, "neither": 3}
    assert outcome.stderr == ""


def test_tables_for_people_and_for_papers(llavamed: Run, bench: Path) -> None:
    first, second = evaluate(llavamed, bench, "a", "ours"), evaluate(llavamed, bench, "b", "theirs")
    plain = llavamed("eval", "compare", first, second).stdout
    assert max(map(len, plain.splitlines())) <= 80
    assert "right: both 21, first alone 11, second alone 5, neither 3" in plain
    paper = llavamed("eval", "compare", first, second, "--markdown").stdout
    assert "| a/answers:ours.jsonl − b/answers:theirs.jsonl |" in paper


def test_questions_that_differ_are_left_out_and_counted(llavamed: Run, bench: Path) -> None:
    first = evaluate(llavamed, bench, "a", "ours", more=("--limit", 30))
    lines = bench.read_text().splitlines()
    lines[0] = lines[0].replace("Is it 0?", "Was it 0?")
    bench.write_text("\n".join(lines))
    second = evaluate(llavamed, bench, "b", "ours")
    outcome = llavamed("eval", "compare", first, second, "--json")
    read = json.loads(outcome.stdout)["benchmarks"]["bench"]
    assert read["n"] == 29 and len(read["notes"]) == 2
    assert "1 of 30 questions in" in outcome.stderr and "11 of 40 questions in" in outcome.stderr
    assert read["differences"][0]["overall"]["strict"]["accuracy"]["value"] == 0


def test_folders_of_one_name_are_told_apart(llavamed: Run, bench: Path) -> None:
    first, second = evaluate(llavamed, bench, "x/out", "ours"), evaluate(llavamed, bench, "y/out", "theirs")
    outcome = llavamed("eval", "compare", first, second, "--json")
    assert set(json.loads(outcome.stdout)["answerers"]) == {"A/answers:ours.jsonl", "B/answers:theirs.jsonl"}


def test_what_cannot_be_compared(llavamed: Run, bench: Path) -> None:
    first = evaluate(llavamed, bench, "a", "ours")
    other = bench.with_name("other.jsonl")
    other.write_text(bench.read_text())
    cases = {
        bench.parent: (2, "no folder that `llavamed eval` wrote"),
        evaluate(llavamed, other, "b", "ours"): (2, "no benchmark in common: bench in"),
    }
    changed = evaluate(llavamed, bench, "c", "ours")
    for path in (changed / "questions").iterdir():
        path.write_text(path.read_text().replace("Is it", "Was it"))
    cases[changed] = (1, "no question is the same")
    unfinished = evaluate(llavamed, bench, "d", "ours")
    record = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").write_text(json.dumps({**record, "status": "running"}))
    cases[unfinished] = (2, "not finished")
    damaged = evaluate(llavamed, bench, "e", "ours")
    (damaged / "answers.jsonl").write_text('{"question_id": "1"}\n')
    cases[damaged] = (1, "answers.jsonl:1")
    for folder, (code, words) in cases.items():
        outcome = llavamed("eval", "compare", first, folder)
        assert outcome.code == code and words in outcome.stderr, folder


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("scores.json", "answerers", None),
        ("scores.json", "answerers", [["one"]]),
        ("scores.json", "benchmarks", None),
        ("scores.json", "benchmarks", [1]),
        ("scores.json", "benchmarks", {"bench": "said"}),
        ("scores.json", "benchmarks", {"bench": {}}),
        ("answers.jsonl", "question_id", 7),
        ("answers.jsonl", "text", 5),
        ("answers.jsonl", "text", 0),
        ("answers.jsonl", "text", ["yes"]),
        ("answers.jsonl", "model_id", {"a": 1}),
        ("answers.jsonl", "metadata", {"benchmark": [1]}),
        ("questions/bench.jsonl", "answer", None),
        ("questions/bench.jsonl", "image", 5),
    ],
)
def test_a_damaged_folder_is_named(llavamed: Run, bench: Path, file: str, name: str, value: object) -> None:
    first, damaged = evaluate(llavamed, bench, "a", "ours"), evaluate(llavamed, bench, "b", "ours")
    lines = [(damaged / file).read_text()] if file == "scores.json" else (damaged / file).read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), name: value})
    (damaged / file).write_text("\n".join(lines))
    outcome = llavamed("eval", "compare", first, damaged)
    assert outcome.code == 1 and str(damaged) in outcome.stderr and "bug" not in outcome.stderr


def test_has_a_help_of_its_own(llavamed: Run) -> None:
    outcome = llavamed("eval", "compare", "--help")
    assert outcome.code == 0 and "eval compare" in outcome.stdout and "--judge" not in outcome.stdout
    assert llavamed("eval", "compare", "one").code == 2


def test_trained_on_tells_the_pictures_that_were_seen(llavamed: Run, bench: Path) -> None:
    data = bench.parent / "data" / "images"
    data.mkdir(parents=True)
    for number in range(5):
        (data / f"other-name-{number}.png").write_bytes((bench.parent / f"{number}.png").read_bytes())
    out = evaluate(llavamed, bench, "a", "ours", more=("--trained-on", data.parent))
    read = json.loads((out / "scores.json").read_text())["benchmarks"]["bench"]
    assert [overlap["same_bytes"] for overlap in read["contamination"]] == [5]
    seen = read["answerers"]["answers:ours.jsonl"]["by"]["training_picture"]
    assert (seen["seen"]["overall"]["n"], seen["unseen"]["overall"]["n"]) == (10, 30)
    refused = llavamed("eval", "majority", "--on", bench, "--trained-on", bench.parent / "no", "--out", out / "x")
    assert refused.code == 2 and "--trained-on" in refused.stderr
