"""`llavamed eval` with answerers that are no LLaVA: a CLIP, a cascade of tiny parts, the nearest picture, a server."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Run = Callable[..., Any]
SERVED = ("--yes", "--concurrency", "4")


def write_bench(folder: Path, count: int = 12) -> Path:
    """Questions about pictures of noise, two a picture, and the same as training questions."""
    (folder / "images").mkdir()
    lines = []
    for number in range(count):
        Image.effect_noise((40, 30), 20 + 5 * number).convert("RGB").save(folder / "images" / f"secret{number}.png")
        for index, (text, answer) in enumerate({"Is it a ct?": "no", "Which image of?": "lung"}.items()):
            record = {"id": f"{number}-{index}", "image": f"secret{number}.png", "question": f"{text} {number}"}
            lines.append(json.dumps({**record, "answer": answer}))
    (folder / "bench.jsonl").write_text("\n".join(lines))
    return folder / "bench.jsonl"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return write_bench(tmp_path)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("LLAVAMED_CONFIG", str(tmp_path / "config"))


def scores_of(out: Path) -> Any:
    (found,) = json.loads((out / "scores.json").read_text())["benchmarks"].values()
    return found["answerers"]


def test_clip_cascade_and_nearest_side_by_side(
    llavamed: Run, bench: Path, tiny_clip: Path, tiny_model: Path, tmp_path: Path
) -> None:
    cascade = tmp_path / "cascade.toml"
    cascade.write_text(f"""
[router]
clip = "{tiny_clip}"
[experts.told]
label = "a chest x ray"
model = "{tiny_model}"
prompt = "Describe it."
[experts.named]
label = "ct scan of the lung"
clip = "{tiny_clip}"
findings = ["nodule", "left lung", "right lobe"]
[answerer]
model = "{tiny_model}"
prompt = "{{label}}: {{description}} {{question}}"
""")
    out = tmp_path / "report"
    whos = (f"clip:{tiny_clip}", f"cascade:{cascade}", "nearest")
    outcome = llavamed(
        *("eval", *whos, "--on", bench, "--train", bench, "--out", out, "--max-new-tokens", 4, "--markdown")
    )
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.startswith("**bench**") and "| nearest |" in outcome.stdout
    clip, shown, nearest = scores_of(out).values()
    assert (clip["absent"], shown["absent"], nearest["absent"]) == (12, 0, 0)  # a CLIP cannot write
    assert nearest["open"]["strict"]["accuracy"]["value"] == 100  # it finds the very question
    log = next((out / "answers").glob("cascade*/bench.jsonl")).read_text().splitlines()
    prompts = [json.loads(line)["prompt"] for line in log]
    assert all("Is it a ct?" in prompt or "Which image" in prompt for prompt in prompts)
    assert any("%)" in prompt for prompt in prompts) or any("a chest x ray: " in prompt for prompt in prompts)
    assert not any("..." in prompt for prompt in prompts), "a description is missing"


def write_cascade(folder: Path, clip: Path, answerer: str, router: str) -> Path:
    """Two experts, both a CLIP that names findings."""
    experts = "".join(
        f'[experts.{name}]\nlabel = "{label}"\nclip = "{clip}"\nfindings = ["nodule", "left lung"]\n'
        for name, label in (("first", "x-ray"), ("second", "ct"))
    )
    prompt = 'prompt = "{label}: {description} {question}"'
    (folder / "cascade.toml").write_text(f"[router]\n{router}\n{experts}[answerer]\n{answerer}\n{prompt}\n")
    return folder / "cascade.toml"


def write_classifier(folder: Path) -> Path:
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ViTForImageClassification(
            ViTConfig(**small, image_size=16, patch_size=8, id2label={0: "X-ray", 1: "CT"})
        )
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_a_classifier_routes_and_a_server_answers_from_descriptions_alone(
    llavamed: Run, bench: Path, serve: Any, tiny_clip: Path, tmp_path: Path
) -> None:
    server = serve()
    server.reply = lambda body: "no"
    classifier = write_classifier(tmp_path / "classifier")
    answerer = f'openai = "writer"\nbase_url = "{server.url}"'
    cascade = write_cascade(tmp_path, tiny_clip, answerer, f'classifier = "{classifier}"')
    out = tmp_path / "out"
    outcome = llavamed("eval", f"cascade:{cascade}", "majority", "--on", bench, "--train", bench, "--out", out)
    assert outcome.code == 0, outcome.stderr
    assert scores_of(out)["cascade:cascade.toml"]["closed"]["strict"]["accuracy"]["value"] == 100
    asked = [body["messages"][0]["content"] for body in server.bodies.values()]
    assert len(asked) == 24 and all(isinstance(text, str) and "%), " in text for text in asked)
    assert all(text.startswith(("x-ray: ", "ct: ")) for text in asked)
    kept = (out / "descriptions" / "cascade+cascade.toml" / "bench.jsonl").read_text().splitlines()
    assert len(kept) == 12 and {json.loads(line)["expert"] for line in kept} <= {"first", "second"}
    record = json.loads((out / "run.json").read_text())
    weights = record["results"]["models"]["cascade:cascade.toml"]["weights"]
    assert {"router: model.safetensors", "expert first, expert second: model.safetensors"} == set(weights)
    assert "the first prompt" in (out / "report.html").read_text()


def test_another_part_in_the_same_folder_is_refused(
    llavamed: Run, bench: Path, serve: Any, openai_server: Any, tiny_clip: Path, tmp_path: Path
) -> None:
    """The file is the same, and what it names is not: answers of both would stand in one table."""
    server = serve()
    server.script = lambda body, times: openai_server.error(401, "no such key") if len(server.charges) > 4 else None
    clip = shutil.copytree(tiny_clip, tmp_path / "clip")
    cascade = write_cascade(tmp_path, clip, f'openai = "m"\nbase_url = "{server.url}"', f'clip = "{clip}"')
    command = ("eval", f"cascade:{cascade}", "--on", bench, "--out", tmp_path / "out")
    assert llavamed(*command).code == 1
    (clip / "vocabulary.txt").write_text("another")
    outcome = llavamed(*command)
    assert outcome.code == 2 and "router, expert first, expert second: its content differs" in outcome.stderr


def test_descriptions_do_not_leave_for_a_server_that_a_file_names(
    llavamed: Run, bench: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    answerer = 'openai = "m"\nbase_url = "http://192.0.2.1/v1"'
    cascade = write_cascade(tmp_path, tiny_clip, answerer, f'clip = "{tiny_clip}"')
    outcome = llavamed("eval", f"cascade:{cascade}", "--on", bench, "--out", tmp_path / "out")
    assert outcome.code == 2 and "descriptions of pictures would leave this machine, for 192.0.2.1" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_a_faulty_cascade_is_refused_before_anything_is_read(
    llavamed: Run, bench: Path, tiny_clip: Path, tmp_path: Path
) -> None:
    cascade = write_cascade(tmp_path, tiny_clip, 'modle = "m"', f'clip = "{tiny_clip}"')
    outcome = llavamed("eval", f"cascade:{cascade}", "--on", bench, "--out", tmp_path / "out")
    assert outcome.code == 1 and "2 fault(s)" in outcome.stderr and "did you mean model?" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_a_server_gets_pixels_and_the_question_and_nothing_else(
    llavamed: Run, bench: Path, serve: Any, tmp_path: Path
) -> None:
    server = serve()
    server.reply = lambda body: "no"
    out = tmp_path / "report"
    command = ("eval", "vlm", "blind:vlm", "--base-url", server.url, "--on", bench, "--out", out, *SERVED)
    outcome = llavamed(*command)
    assert outcome.code == 0, outcome.stderr
    assert scores_of(out)["vlm"]["closed"]["strict"]["accuracy"]["value"] == 100
    seeing = [body for body in server.bodies.values() if not isinstance(body["messages"][0]["content"], str)]
    assert len(seeing) == 24 and len(server.bodies) == 48
    for body in server.bodies.values():
        assert "secret" not in json.dumps(body), "a file name leaves the machine"
        assert body["temperature"] == 0
    picture, words = seeing[0]["messages"][0]["content"]
    with Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2]))) as sent:
        assert sent.size == (40, 30) and not sent.info
    assert words["text"].startswith(("Is it a ct?", "Which image of?"))
    again = llavamed(*command)
    assert again.code == 0 and "finished already" in again.stderr
    assert sum(server.sent.values()) == 48


def test_a_server_that_dies_half_way_is_told_and_what_was_answered_is_kept(
    llavamed: Run, bench: Path, serve: Any, openai_server: Any, tmp_path: Path
) -> None:
    server = serve()
    server.reply = lambda body: "no"
    dead = False

    def script(body: Any, times: int) -> Any:
        return openai_server.error(401, "no such key") if dead or len(server.charges) >= 9 else None

    server.script = script
    command = ("eval", "vlm", "--base-url", server.url, "--on", bench, "--out", tmp_path / "out", "--yes")
    outcome = llavamed(*command, "--concurrency", 2)
    assert outcome.code == 1 and "401" in outcome.stderr and "Traceback" not in outcome.stderr
    server.script = lambda body, times: None
    assert llavamed(*command, "--concurrency", 2).code == 0
    assert set(server.charged().values()) == {1} and len(server.charged()) == 24


def test_a_refused_question_is_absent_and_said(llavamed: Run, bench: Path, serve: Any, tmp_path: Path) -> None:
    server = serve()
    server.reply = lambda body: "" if "Which" in json.dumps(body) else "no"
    outcome = llavamed("eval", "vlm", "--base-url", server.url, "--on", bench, "--out", tmp_path / "out", "--yes")
    assert outcome.code == 0, outcome.stderr
    assert "12 question(s): the answer is empty; counted as wrong" in outcome.stderr
    assert scores_of(tmp_path / "out")["vlm"]["absent"] == 12


def test_pictures_do_not_leave_unasked(llavamed: Run, bench: Path, tmp_path: Path) -> None:
    outcome = llavamed("eval", "vlm", "--base-url", "http://192.0.2.1/v1", "--on", bench, "--out", tmp_path / "out")
    assert outcome.code == 2 and "--yes" in outcome.stderr


def test_a_budget_is_never_passed(llavamed: Run, bench: Path, serve: Any, tmp_path: Path) -> None:
    server = serve()
    server.reply = lambda body: "no"
    options = ("--budget", "0.1", "--price", "1,1000", "--concurrency", 1)
    command = ("eval", "vlm", "--base-url", server.url, "--on", bench, "--out", tmp_path / "out", "--yes")
    outcome = llavamed(*command, *options)
    assert outcome.code == 1 and "--budget" in outcome.stderr
    assert 0 < len(server.charges) < 24 and server.cost(1, 1000) <= 0.1


@pytest.mark.slow
def test_ten_kills_and_nothing_is_asked_twice(openai_server: Any, tmp_path: Path) -> None:
    bench, out = write_bench(tmp_path, count=60), tmp_path / "out"
    server = openai_server.ScriptedServer(seconds=0.2)
    server.reply = lambda body: "no"
    environment = {**os.environ, "LLAVAMED_CONFIG": str(tmp_path / "config"), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "llavamed_cli", "eval", "vlm", "--base-url", server.url, "--on", str(bench)]
    command += ["--out", str(out), *SERVED, "--quiet"]
    with server.running():
        for kill in range(1, 11):
            run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            while len(server.charges) < 10 * kill and run.poll() is None:
                time.sleep(0.01)
            assert run.poll() is None, "it ended before it was killed"
            run.send_signal(signal.SIGKILL)
            run.wait()
        assert subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
        assert len(server.charged()) == 120 and set(server.charged().values()) == {1}
    whole = [json.loads(line)["question_id"] for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len(whole) == len(set(whole)) == 120
