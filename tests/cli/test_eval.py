"""`llavamed eval` as a person uses it: a model that looks, its blind twin, majority; interruption; bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.model.generate import Generated, Prompt

QUESTIONS = 24
Run = Callable[..., Any]


@dataclass
class Colours:
    """Stands for a model: tells a white picture from a black one, and says no where it sees none."""

    stop_after: int | None = None
    batches: int = 0
    loaded: list[str] = field(default_factory=list)

    def load(self, where: str, *, device: str = "auto", precision: str = "auto") -> Any:
        self.loaded.append(where)
        words = SimpleNamespace(config=SimpleNamespace(model_type="fake"))
        return SimpleNamespace(choices={}, model=SimpleNamespace(model=SimpleNamespace(language_model=words)))

    def answer(self, loaded: Any, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[Generated]:
        if self.batches == self.stop_after:
            raise KeyboardInterrupt
        self.batches += 1
        return [Generated(text=self._say(prompt), token_ids=(1,), confidence=0.9) for prompt in prompts]

    def _say(self, prompt: Prompt) -> str:
        (turn,) = prompt.turns
        assert turn.text.startswith("<image>\n") == bool(prompt.pictures)
        white = bool(prompt.pictures) and prompt.pictures[0].getpixel((0, 0)) == (255, 255, 255)
        if "colour" in turn.text:
            return "white" if white else "black"
        return "Yes." if white else "No."


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Colours:
    """A fake model that the folder `tuned` stands for."""
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "config.json").write_text("{}")
    colours = Colours()
    monkeypatch.setattr("llavamed_cli.model.load.load_model", colours.load)
    monkeypatch.setattr("llavamed_cli.model.answer_many.answer_many", colours.answer)
    return colours


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """24 questions about 12 pictures, half of them white."""
    (tmp_path / "images").mkdir()
    lines = []
    for number in range(QUESTIONS // 2):
        white = number % 2 == 0
        Image.new("RGB", (8, 8), "white" if white else "black").save(tmp_path / "images" / f"{number}.png")
        asked = {"Is it white?": "yes" if white else "no", "What colour is it?": "white" if white else "black"}
        for index, (text, answer) in enumerate(asked.items()):
            record = {"id": f"{number}-{index}", "image": f"{number}.png", "question": text, "answer": answer}
            lines.append(json.dumps({**record, "question_type": ["PRES", "COLOR"][index]}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:10]))
    (tmp_path / "bench.jsonl").write_text("\n".join(lines))
    return tmp_path / "bench.jsonl"


def arguments(bench: Path, out: str, *more: object) -> list[object]:
    folder = bench.parent
    whos = [folder / "tuned", f"blind:{folder / 'tuned'}", "majority"]
    return ["eval", *whos, "--on", bench, "--train", folder / "train.jsonl", "--out", folder / out, *more]


def value(scores: Any, who: str, group: str, metric: str) -> float:
    found: float = scores["benchmarks"]["bench"]["answerers"][who][group]["strict"][metric]["value"]
    return found


def test_who_looks_beats_its_blind_twin_and_majority(llavamed: Run, model: Colours, bench: Path) -> None:
    outcome = llavamed(*arguments(bench, "report"))
    assert outcome.code == 0, outcome.stderr
    assert max(len(line) for line in outcome.stdout.splitlines()) <= 80
    out = bench.parent / "report"
    scores = json.loads((out / "scores.json").read_text())
    for group in ("open", "closed"):
        assert value(scores, "tuned", group, "accuracy") == 100
        assert value(scores, "blind:tuned", group, "accuracy") == 50
        assert value(scores, "majority", group, "accuracy") == 50
    pairs = {(d["first"], d["second"]): d for d in scores["benchmarks"]["bench"]["differences"]}
    assert pairs["tuned", "blind:tuned"]["closed"]["strict"]["accuracy"]["low"] > 0
    assert len(model.loaded) == 1  # the model and its blind twin share one
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 3 * QUESTIONS
    assert set(answers[0]) == {"question_id", "prompt", "text", "answer_id", "model_id", "metadata", "confidence"}
    assert len({answer["answer_id"] for answer in answers}) == len(answers)
    run = json.loads((out / "run.json").read_text())
    assert run["status"] == "finished" and len(run["inputs"]["tuned"]["sha256"]) == 64


def test_report_is_one_safe_file(llavamed: Run, model: Colours, bench: Path) -> None:
    hostile = bench.read_text().replace("Is it white?", "<script>alert(1)</script>?")
    bench.write_text(hostile)
    assert llavamed(*arguments(bench, "report")).code == 0
    page = (bench.parent / "report" / "report.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    for expected in ("tuned − blind:tuned", "By question type", "greedy, at most 64 new tokens", "confidence 0.90"):
        assert expected in page


def test_json_is_the_scores_alone(llavamed: Run, model: Colours, bench: Path) -> None:
    outcome = llavamed(*arguments(bench, "report", "--json", "--quiet"))
    assert json.loads(outcome.stdout) == json.loads((bench.parent / "report" / "scores.json").read_text())
    assert outcome.stderr == ""


@pytest.mark.parametrize("torn", [0, 40])
def test_an_interrupted_run_goes_on_and_ends_the_same(llavamed: Run, model: Colours, bench: Path, torn: int) -> None:
    assert llavamed(*arguments(bench, "whole", "--batch-size", 5)).code == 0
    total, model.batches, model.stop_after = model.batches, 0, 3
    assert llavamed(*arguments(bench, "cut", "--batch-size", 5)).code == 130
    whole, cut = bench.parent / "whole", bench.parent / "cut"
    assert not (cut / "scores.json").exists()
    log = cut / "answers" / "tuned" / "bench.jsonl"
    log.write_bytes(log.read_bytes()[: log.stat().st_size - torn])
    model.stop_after = None
    assert llavamed(*arguments(bench, "cut", "--batch-size", 5)).code == 0
    assert model.batches == total + (1 if torn else 0)
    for name in ("scores.json", "answers.jsonl"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    again = llavamed(*arguments(bench, "cut", "--batch-size", 5))
    assert again.code == 0 and "finished already" in again.stderr
    other = llavamed(*arguments(bench, "cut", "--batch-size", 6))
    assert other.code == 2 and "--batch-size: 5 there, 6 now" in other.stderr


def test_missing_and_unreadable_pictures_are_listed_or_left_out(llavamed: Run, model: Colours, bench: Path) -> None:
    (bench.parent / "images" / "0.png").unlink()
    (bench.parent / "images" / "1.png").write_bytes(b"no picture")
    outcome = llavamed(*arguments(bench, "report"))
    assert outcome.code == 1
    assert "4 question(s) cannot be asked" in outcome.stderr
    assert f"{bench}:1 (0-0): picture 0.png is not in" in outcome.stderr
    assert "1.png (1-0): not a picture" in outcome.stderr
    assert not (bench.parent / "report").exists()
    skipped = llavamed(*arguments(bench, "report", "--missing", "skip"))
    assert skipped.code == 0 and "4 record(s) set aside, 20 kept" in skipped.stderr
    scores = json.loads((bench.parent / "report" / "scores.json").read_text())
    assert scores["benchmarks"]["bench"]["n"] == 20
    assert len(scores["benchmarks"]["bench"]["left_out"]) == 4
    assert any("not the benchmark's score" in note for note in scores["benchmarks"]["bench"]["notes"])


def test_answers_made_elsewhere_get_the_same_scores(llavamed: Run, model: Colours, bench: Path) -> None:
    assert llavamed(*arguments(bench, "first")).code == 0
    theirs = bench.parent / "first" / "answers" / "tuned" / "bench.jsonl"
    outcome = llavamed("eval", f"answers:{theirs}", "--on", bench, "--out", bench.parent / "second", "--json")
    assert outcome.code == 0, outcome.stderr
    second = json.loads(outcome.stdout)
    first = json.loads((bench.parent / "first" / "scores.json").read_text())
    ours = first["benchmarks"]["bench"]["answerers"]["tuned"]
    (found,) = second["benchmarks"]["bench"]["answerers"].values()
    ours["open"]["reference"].pop("nearest_accuracy")  # needs --train
    assert found == {**ours, "by": found["by"]}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["eval", "majority", "--on", "{bench}", "--out", "{out}"], 2, "--train FILE"),
        (["eval", "nobody", "--on", "{bench}", "--out", "{out}"], 2, "no such model folder or answerer"),
        (["eval", "majority", "majority", "--on", "{bench}", "--out", "{out}"], 2, "named twice"),
        (["eval", "majority", "--on", "radiology:x", "--out", "{out}"], 2, "no benchmark is called"),
        (["eval", "majority", "--on", "phantoms:2", "--images", "x", "--out", "{out}"], 2, "--images says nothing"),
        (["eval", "majority", "--on", "{bench}", "--images", "{out}/none", "--out", "{out}"], 2, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_message(
    llavamed: Run, bench: Path, change: list[str], code: int, message: str
) -> None:
    out = bench.parent / "out"
    outcome = llavamed(*(part.format(bench=bench, out=out) for part in change))
    assert outcome.code == code
    assert message in outcome.stderr and "Traceback" not in outcome.stderr
    assert not out.exists()


def test_a_foreign_folder_is_left_alone(llavamed: Run, model: Colours, bench: Path) -> None:
    outcome = llavamed(*arguments(bench, "images"))
    assert outcome.code == 2 and "no run.json says that llavamed made it" in outcome.stderr
    assert not (bench.parent / "images" / "run.json").exists()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real LLaVA from nothing, saved."""
    import torch

    from llavamed_cli.model.assemble import assemble
    from llavamed_cli.model.save import save_model

    folder = tmp_path_factory.mktemp("model") / "tiny"
    made = assemble("tiny", "tiny", dtype=torch.float32, seed=0)
    save_model(made.model, made.processor, folder)
    return folder


def test_a_real_model_answers_phantoms_and_the_same_again(llavamed: Run, tiny: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        outcome = llavamed(
            *("eval", tiny, f"blind:{tiny}", "majority", "--on", "phantoms:3", "--max-new-tokens", 4),
            *("--out", tmp_path / out, "--device", "cpu"),
        )
        assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "a" / "answers.jsonl").read_bytes() == (tmp_path / "b" / "answers.jsonl").read_bytes()
    answers = [json.loads(line) for line in (tmp_path / "a" / "answers.jsonl").read_text().splitlines()]
    assert {answer["prompt"].startswith("<image>\n") for answer in answers if answer["model_id"] == "tiny"} == {True}
    assert all(0 <= answer["confidence"] <= 1 for answer in answers if answer["model_id"] == "tiny")


def test_majority_on_the_published_file(llavamed: Run, shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "vqa_rad"
    file = folder / "VQA_RAD Dataset Public.json"
    outcome = llavamed("eval", "majority", "--on", f"vqa-rad:{file}", "--out", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.stderr
    read = json.loads(outcome.stdout)["benchmarks"]["vqa-rad"]
    assert (read["n"], read["open"], read["closed"], read["pictures"]) == (451, 179, 272, 203)
    closed = read["answerers"]["majority"]["closed"]["strict"]["accuracy"]["value"]
    assert closed == pytest.approx(100 * 133 / 272, abs=1e-6)  # "no", the most frequent closed answer of training
    assert set(read["answerers"]["majority"]["by"]["organ"]) == {"ABD", "CHEST", "HEAD"}
    assert "202 of the 203 test pictures" in outcome.stderr


def test_help_shows_examples_in_panels(llavamed: Run) -> None:
    outcome = llavamed("eval", "--help")
    assert outcome.code == 0
    for part in ("What is asked", "How it is answered", "Everywhere", "Examples", "blind:tuned"):
        assert part in outcome.stdout
