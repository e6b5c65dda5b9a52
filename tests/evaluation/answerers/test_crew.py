"""Several processes answer one benchmark: the same answers as one, written by one, and a fault said once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from llavamed_cli.evaluation.answerers.crew import PICTURE, Asking, Crew, deal_by_picture
from llavamed_cli.records import Answer, Question
from llavamed_cli.world import ALONE, World

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
QUESTIONS = [(number, f"{number % 3}.png", text) for number, text in enumerate(["What?", "Is it?", "Where is it?"] * 3)]


def question(number: int, image: str, text: str) -> Question:
    return Question(id=str(number), image=image, picture=Path(image), text=text, answer="yes", answer_type="closed")


@given(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=30)), max_size=30), st.integers(1, 4))
def test_a_picture_is_dealt_to_one_and_none_is_overburdened(pairs: list[tuple[int, str]], size: int) -> None:
    asked = [question(number, f"{image}.png", text) for number, (image, text) in enumerate(pairs)]
    hands = deal_by_picture(asked, size)
    assert sorted(int(one.id) for hand in hands for one in hand) == list(range(len(asked)))
    held = [{one.image for one in hand} for hand in hands]
    assert sum(map(len, held)) == len({one.image for one in asked})
    weights = [sum(len(one.text) for one in hand) + PICTURE * len(held[n]) for n, hand in enumerate(hands)]
    heaviest = max([PICTURE + sum(len(q.text) for q in asked if q.image == one.image) for one in asked], default=0)
    assert max(weights) - min(weights) <= heaviest


class Met(World):
    """A world whose other process answers at once, by the same rule."""

    def exchange(self, value: Any, fault: Exception | None = None) -> list[Any]:
        if isinstance(value, tuple):
            self.handed = value
            return [value, None]
        asking, hands = self.handed
        return [value, work(asking, hands[1])]


def work(asking: Asking, asked: Any) -> list[Answer]:
    return [Answer(question_id=one.id, text=f"{asking.where} {one.id}") for one in asked]


@pytest.mark.parametrize("world", [ALONE, Met(size=2)])
def test_answers_come_in_the_order_asked(world: World) -> None:
    asked = [question(*one) for one in QUESTIONS]
    answers = Crew(work, world).answer(Asking("m", False, 3), asked)
    assert [answer.text for answer in answers] == [f"m {one.id}" for one in asked]


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    for number, colour in enumerate(("black", "white", "red")):
        Image.new("RGB", (40 + number, 30), colour).save(tmp_path / f"{number}.png")
    records = [
        {"id": str(number), "image": image, "question": text, "answer": "yes", "answer_type": "closed"}
        for number, image, text in QUESTIONS
    ]
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def in_two(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*LAUNCH, "-m", "llavamed_cli", *map(str, arguments)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def answers_in(out: Path) -> dict[tuple[str, str], tuple[str, float]]:
    records = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len({record["answer_id"] for record in records}) == len(records)
    return {(one["model_id"], one["question_id"]): (one["text"], one["confidence"]) for one in records}


def test_two_processes_answer_as_one_and_one_of_them_writes(
    tiny_model: Path, benchmark: Path, tmp_path: Path, llavamed: Callable[..., Any]
) -> None:
    asked = ["eval", tiny_model, f"blind:{tiny_model}", "--on", benchmark, "--images", tmp_path, "--device", "cpu"]
    asked += ["--max-new-tokens", "6", "--batch-size", "2"]
    alone = llavamed(*asked, "--out", tmp_path / "one")
    assert alone.code == 0, alone.stderr
    ended = in_two(*asked, "--out", tmp_path / "two")
    assert ended.returncode == 0, ended.stderr
    one, two = answers_in(tmp_path / "one"), answers_in(tmp_path / "two")
    assert {key: text for key, (text, _) in one.items()} == {key: text for key, (text, _) in two.items()}
    assert all(two[key][1] == pytest.approx(confidence, abs=1e-5) for key, (_, confidence) in one.items())
    assert ended.stdout == alone.stdout
    assert ended.stderr.count("The report is") == 1
    again = in_two(*asked, "--out", tmp_path / "two")
    assert (again.returncode, again.stdout) == (0, ended.stdout)
    assert "finished already" in again.stderr

    (benchmark.parent / "2.png").write_bytes(b"no picture any more")
    broken = in_two(*asked, "--out", tmp_path / "three")
    assert broken.returncode != 0
    assert broken.stderr.count("2.png") >= 1
