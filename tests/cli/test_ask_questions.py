"""`llavamed ask`: several questions, where they and the pictures come from, what is declined, and what goes wrong."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llavamed_cli.asking.choice_of_model import PUBLISHED
from llavamed_cli.model import hub
from llavamed_cli.records import AnswerType

Run = Callable[..., Any]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scan.png"
    Image.effect_mandelbrot((90, 60), (-2, -1, 1, 1), 40).convert("RGB").save(path)
    return path


@pytest.fixture
def ask(tiny_model: Path, llavamed: Run) -> Run:
    """Ask the tiny model, shortly."""
    return lambda *words: llavamed("ask", *words, "--model", tiny_model, "--max-new-tokens", 5)


def test_several_questions_are_objects_on_lines_as_each_alone(ask: Run, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_text("Which organ?\n\n  Sure? \n")
    outcome = ask(picture, "-q", "What is it?", "--question-file", tmp_path / "asked.txt", "--json")
    assert outcome.code == 0, outcome.stderr
    told = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [one["question"] for one in told] == ["What is it?", "Which organ?", "Sure?"]
    for one in told:
        alone = json.loads(ask(picture, one["question"], "--json").stdout)
        assert (one["answer"], one["confidence"]) == (alone["answer"], pytest.approx(alone["confidence"], abs=2e-4))


def test_the_fields_of_an_answer(ask: Run, picture: Path) -> None:
    told = json.loads(ask(picture, picture, "What changed?", "--json").stdout)
    assert list(told) == [
        *("question", "answer", "declined", "confidence", "yes_no", "sure", "finish", "tokens", "model", "precision"),
        *("choices", "pictures", "seconds", "tokens_per_second", "version", "notice"),
    ]
    assert (told["declined"], told["finish"], told["tokens"], told["precision"]) == (None, "length", 5, "fp32")
    assert [facts["format"] for facts in told["pictures"]] == ["PNG", "PNG"]
    assert 0 < told["seconds"]["first_token"] <= told["seconds"]["answer"]
    assert told["tokens_per_second"] > 0


def test_as_text_each_question_stands_above_its_answer(ask: Run, picture: Path) -> None:
    alone = ask(picture, "What is it?")
    both = ask(picture, "-q", "What is it?", "-q", "Sure?")
    assert both.stdout.startswith(f"> What is it?\n{alone.stdout}\n> Sure?\n")
    assert "stops at its limit of 5 tokens" in alone.stderr


def test_pictures_and_questions_may_be_piped_in(ask: Run, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = ask(picture, "What is it?").stdout
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(picture.read_bytes())))
    assert ask("-", "What is it?").stdout == named
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is it?\n"))
    assert ask(picture, "--question-file", "-").stdout == named


def test_what_is_declined_exits_with_3_and_says_what_else(ask: Run, picture: Path) -> None:
    held = ask(picture, "What is it?", "--decline-below", "1")
    assert held.code == 3
    assert held.stdout.startswith("Declined: the model is 0.") and "wavers between" in held.stdout
    told = ask(picture, "What is it?", "--decline-below", "1", "--json")
    assert told.code == 3
    one = json.loads(told.stdout)
    assert one["answer"] is None and one["declined"]["below"] == 1.0 and one["sure"] < 1
    assert len(one["declined"]["alternatives"]) == 3
    assert "not a medical device" in told.stderr.splitlines()[-1]
    given = ask(picture, "What is it?", "--decline-below", "0")
    assert (given.code, given.stdout) == (0, ask(picture, "What is it?").stdout)


def test_drawing_is_repeated_by_its_seed(ask: Run, picture: Path) -> None:
    drawn = [ask(picture, "What?", "--temperature", 2, "--seed", seed).stdout for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_answer_is_evals_and_plain_transformers(
    tiny_model: Path, picture: Path, ask: Run, llavamed: Run, tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    texts = ("What is it?", "Is it a lung?")
    kinds: tuple[AnswerType, ...] = ("open", "closed")
    asked = [
        {"id": str(n), "image": picture.name, "question": text, "answer": "no", "answer_type": kind}
        for n, (text, kind) in enumerate(zip(texts, kinds, strict=True))
    ]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    out = tmp_path / "report"
    scored = llavamed(
        *("eval", tiny_model, "--on", tmp_path / "asked.jsonl", "--images", tmp_path, "--max-new-tokens", 5),
        *("--out", out, "--quiet"),
    )
    assert scored.code == 0, scored.stderr
    answered = {}
    for file in out.rglob("*.jsonl"):
        for line in file.read_text().splitlines():
            one = json.loads(line)
            answered[str(one.get("question_id"))] = one.get("text")
    processor: Any = AutoProcessor.from_pretrained(tiny_model)
    model: Any = AutoModelForImageTextToText.from_pretrained(tiny_model).eval()
    for number, text in enumerate(texts):
        ours = json.loads(ask(picture, text, "--json").stdout)["answer"]
        assert answered[str(number)] == ours
        content = [{"type": "image", "image": Image.open(picture)}, {"type": "text", "text": text}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
        made = model.generate(**inputs, do_sample=False, max_new_tokens=5)[0, inputs["input_ids"].shape[1] :]
        assert processor.decode(made, skip_special_tokens=True).strip() == ours


@pytest.mark.parametrize("layout", ["inside", "separate"])
def test_the_published_layout_is_asked_as_it_is(
    layout: str, shared: Path, llavamed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference's own greedy answer, recorded."""
    oracle = shared / "oracle" / "v15"
    recorded = json.loads((oracle / "prompts.json").read_text())
    prompt = next(one for one in recorded if one["conv_mode"] == "mistral_instruct" and len(one["turns"]) == 1)
    monkeypatch.chdir(oracle)
    question = prompt["turns"][0].replace("<image>\n", "")
    outcome = llavamed(
        *("ask", *prompt["images"], question, "--model", f"llava-mistral-tiny-{layout}", "--precision", "fp32"),
        *("--max-new-tokens", 24),
    )
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.strip() == prompt[f"text_{'inside_weights' if layout == 'inside' else layout}"]


def test_a_default_answers_when_none_is_named(
    tiny_model: Path, picture: Path, ask: Run, llavamed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAVAMED_CONFIG", str(tmp_path / "config"))
    kept = llavamed("ask", "--set-default", tiny_model)
    assert kept.code == 0 and str(tmp_path / "config" / "config.toml") in kept.stdout
    assert llavamed("ask", picture, "What?", "--max-new-tokens", 5).stdout == ask(picture, "What?").stdout
    assert llavamed("ask", "--set-default", tmp_path).code == 1
    assert llavamed("ask", picture, "What?", "--max-new-tokens", 5).code == 0


def test_without_a_model_and_a_network_three_ways_are_named(
    picture: Path, llavamed: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LLAVAMED_MODEL", raising=False)
    monkeypatch.setenv("LLAVAMED_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(hub, "is_here", lambda where: False)
    outcome = llavamed("ask", picture, "What?")
    assert outcome.code == 2
    assert PUBLISHED in outcome.stderr and "15 GB" in outcome.stderr
    ways = [line for line in outcome.stderr.splitlines() if line.strip()[:2] in ("1.", "2.", "3.")]
    assert len(ways) == 3 and "quickstart" in ways[0]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["scna.png", "What?"], 1, "Did you mean scan.png?"),
        (["report.pdf", "What?"], 1, "report.pdf: a PDF document, not a picture"),
        (["scan.png", ""], 2, "the question is empty"),
        (["scan.png", "-q", "scan.png"], 2, "a picture stands where the question belongs"),
        (["scan.png"], 2, "no question is asked"),
        (["What?"], 2, "no picture is named"),
        (["http://example.org/a.png", "What?"], 2, "https alone"),
        (["https://127.0.0.1/a.png", "What?"], 1, "not a public one"),
        (["scan.png", "What?", "--top-p", "0.5"], 2, "--top-p"),
        (["scan.png", "What?", "--temperature", "-1"], 2, "--temperature"),
        (["scan.png", "What?", "--decline-below", "2"], 2, "decline-below"),
        (["scan.png", "--question-file", "none.txt"], 2, "none.txt"),
        (["scan.png", "-q", "a", "-q", "b", "--evidence", "map.png"], 2, "one question"),
        (["scan.png", "What?", "--evidence", "map.jpg"], 2, "ends in .png"),
        (["scan.png", "What?", "--evidence", "none/map.png"], 2, "no such folder"),
        (["scan.png", "What?", "--max-new-tokens", "9999999"], 2, "that the model can follow"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], code: int, said: str, picture: Path, tiny_model: Path, llavamed: Run, monkeypatch: Any
) -> None:
    monkeypatch.chdir(picture.parent)
    Path("report.pdf").write_bytes(b"%PDF-1.7")
    outcome = llavamed("ask", *words, "--model", tiny_model, "--quiet")
    assert outcome.code == code
    assert said in outcome.stderr and "Traceback" not in outcome.stderr
    assert outcome.stdout == ""


@pytest.mark.parametrize(("kind", "said"), [("clip", "--vision-tower"), ("empty", "config.json")])
def test_a_folder_of_another_kind_is_named(
    kind: str, said: str, picture: Path, pubmed_clip: Path, tmp_path: Path, llavamed: Run
) -> None:
    outcome = llavamed("ask", picture, "What?", "--model", pubmed_clip if kind == "clip" else tmp_path)
    assert outcome.code == 1
    assert said in outcome.stderr and "Traceback" not in outcome.stderr


def test_a_report_in_dicom_holds_no_picture(tmp_path: Path, ask: Run) -> None:
    from pydicom.data import get_testdata_file

    outcome = ask(get_testdata_file("rtplan.dcm", download=False), "What?")
    assert outcome.code == 1
    assert "holds no picture" in outcome.stderr


def test_a_closed_pipe_ends_it_quietly(tiny_model: Path, picture: Path) -> None:
    line = [sys.executable, "-m", "llavamed_cli", "ask", str(picture)]
    line += ["-q", "What?", "-q", "Sure?", "--model", str(tiny_model), "--max-new-tokens", "30"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        said = process.stderr.read()
        process.wait(60)
    assert "Traceback" not in said and "bug" not in said and "BrokenPipe" not in said
    assert "not a medical device" in said.splitlines()[-1]
