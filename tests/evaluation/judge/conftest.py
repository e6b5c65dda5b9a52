"""What the judge's tests share: questions on figures, their answers, and a judge whose ratings are known beforehand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.endpoint.pacing import Patience
from llavamed_cli.evaluation.judge.judging import Judgement, judge_answers
from llavamed_cli.evaluation.judge.options import JudgeOptions
from llavamed_cli.evaluation.scores import ScoredAnswers, score_answers
from llavamed_cli.progress import Silent
from llavamed_cli.records import Answer, FigureText, Question

HURRIED = Patience(tries=4, first_wait=0.02, longest_wait=0.1, refused_for=2.0, answer=2.0, poll=(0.01, 0.05))
DOMAINS = ("chest_xray", "mri")


def make_question(number: int, **other: Any) -> Question:
    fields: dict[str, Any] = {
        "id": f"q{number}",
        "image": f"{number // 2}.jpg",
        "picture": Path(f"{number // 2}.jpg"),
        "text": f"What is seen in figure {number}?",
        "answer": f"A nodule of quality {5 + number % 5}.",
        "answer_type": "open",
        "question_types": (("conversation", "detailed_description")[number % 2],),
        "modality": DOMAINS[number % 2],
        "figure": FigureText(label=f"Figure {number}", caption="Axial CT.", mentions=("It shows a nodule.",)),
    }
    return Question(**{**fields, **other})


@pytest.fixture
def question() -> Callable[..., Question]:
    """`question(3, figure=None)`."""
    return make_question


def answer_with(questions: list[Question], quality: Callable[[int], float]) -> ScoredAnswers:
    answers = {
        one.id: Answer(question_id=one.id, text=f"Seen: quality {quality(number):g}.")
        for number, one in enumerate(questions)
    }
    return score_answers(questions, answers)


@pytest.fixture
def answered() -> Callable[..., ScoredAnswers]:
    """`answered(questions, lambda number: 4.5)`: answers that say themselves how good they are."""
    return answer_with


@dataclass(frozen=True)
class KnownJudge:
    """Rates an answer by the quality that it names, and the one in the first place `bonus` higher."""

    bonus: float = 0.0

    def ratings(self, prompt: str) -> tuple[float, float]:
        blocks = re.findall(r"\[Assistant \d\]\n(.*?)\n\[End of Assistant \d\]", prompt, re.DOTALL)
        first, second = (re.search(r"[qQ]uality ([\d.]+?)\.?(?:\s|$)", block) for block in blocks)
        assert first and second, prompt
        return min(10.0, float(first[1]) + self.bonus), float(second[1])

    def __call__(self, body: dict[str, Any]) -> str:
        first, second = self.ratings(body["messages"][0]["content"])
        return f"{first:g} {second:g}\nBecause."


@pytest.fixture
def known_judge() -> type[KnownJudge]:
    return KnownJudge


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Judgement]:
    """`judge(server, results, budget=1.0)`: journal and reviews in tmp_path, with little patience and no key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def run(server: Any, results: dict[str, dict[str, ScoredAnswers]], **named: Any) -> Judgement:
        out, progress = named.pop("out", tmp_path), named.pop("progress", Silent())
        options = {"name": "scripted", "base_url": server.url, "price": (2.0, 8.0), "concurrency": 4, **named}
        return judge_answers(JudgeOptions(**options), results, out, progress, seed=0, patience=HURRIED)

    return run


CHAT_QUESTIONS = 30


@pytest.fixture
def chat(tmp_path: Path) -> tuple[Path, Path]:
    """A file as LLaVA-Med's chat questions, two on each picture, and a file of answers to them."""
    folder = tmp_path / "chat"
    folder.mkdir()
    with (folder / "questions.jsonl").open("w") as questions, (folder / "answers.jsonl").open("w") as answers:
        for number in range(CHAT_QUESTIONS):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number // 2}.jpg")
            asked = {
                "question_id": number,
                "image": f"{number // 2}.jpg",
                "text": f"What is seen in figure {number}?\n<image>",
                "gpt4_answer": f"A nodule of quality {5 + number % 5}.",
                "type": ("conversation", "detailed_description")[number % 2],
                "domain": {"chest_xray": number % 4 < 2, "mri": True},
                "fig_label": f"Figure {number}",
                "fig_caption": "Axial CT.",
                "in_text_mention": [{"tokens": "It shows a nodule."}],
            }
            questions.write(json.dumps(asked) + "\n")
            answers.write(json.dumps({"question_id": number, "text": f"Quality {number % 7 + 1}."}) + "\n")
    return folder / "questions.jsonl", folder / "answers.jsonl"
