from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture
def side(tmp_path: Path) -> Path:
    """A folder with one pair and one picture that has no text."""
    folder = tmp_path / "side"
    folder.mkdir()
    for name in ("a", "b"):
        Image.effect_noise((48, 48), 40).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("Chest X-ray showing a nodule in the left lung.", encoding="utf-8")
    return folder


def test_the_result_is_on_stdout_and_what_was_set_aside_on_stderr(llavamed: Run, side: Path, tmp_path: Path) -> None:
    outcome = llavamed("build-data", side, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert outcome.stdout.splitlines() == [
        f"{tmp_path / 'out'}: 1 pictures kept, 1 set aside",
        "  align.jsonl     1 captions",
        "  instruct.jsonl  1 conversations, 2 questions",
        "       1  read: unreadable record",
        f"  see {tmp_path / 'out' / 'report.html'}",
    ]
    assert "1 record(s) set aside, 1 kept:" in outcome.stderr
    assert "b.png (b): unreadable record (no b.txt beside this picture)" in outcome.stderr
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert (record["command"], record["status"], record["results"]["kept"]) == ("build-data", "finished", 1)


def test_json_is_one_object_and_a_repeat_gives_it_again(llavamed: Run, side: Path, tmp_path: Path) -> None:
    first = llavamed("build-data", side, "--out", tmp_path / "out", "--json", "--quiet")
    again = llavamed("build-data", side, "--out", tmp_path / "out", "--json")
    assert json.loads(first.stdout) == json.loads(again.stdout)
    assert json.loads(first.stdout)["reasons"] == {"read: unreadable record": 1}
    assert "built already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["phantoms:3", "--split", "test"], 2, "built from training questions alone"),
        (["pcm:PMC123"], 2, "no source is named 'pcm'"),
        (["pmc:PMC"], 2, "neither an article of PubMed Central nor a file of their ids"),
        (["hub:a/b/c"], 2, "hub:owner/name"),
        (["bub:a/b"], 2, "Sources are: pmc:ID"),
        (["nowhere.jsonl"], 2, "no such file or folder"),
        (["phantoms:3", "--teacher", "gpt-4o"], 2, "OPENAI_API_KEY is not set"),
        (["phantoms:3", "--teacher", "m", "--base-url", "http://me:key@host/v1"], 2, "which run.json would keep"),
        (["phantoms:3", "--teacher", "m", "--base-url", "http://host/v1", "--budget", "1"], 2, "Add --price"),
        (["phantoms:3", "--price", "1,2"], 2, "for a teacher that is a model"),
        (["phantoms:3", "--teacher", "m", "--price", "cheap"], 2, "expected two numbers"),
        (["phantoms:3", "--panels", "some"], 2, "--panels"),
        (["phantoms:3", "--license", "GPL"], 2, "no licence that is known here"),
        (["phantoms:3", "--limit", "0"], 2, "at least one picture"),
        (["phantoms:3", "--seed", "-1"], 2, "0 or more"),
        (["SIDE", "--min-quality", "1"], 1, "nothing was kept of 2 record(s)"),
        (["SIDE", "--min-quality", "many"], 2, "--min-quality"),
        (["BROKEN.csv"], 1, "the columns are: a, b"),
        ([], 2, "SOURCE"),
    ],
)
def test_bad_input_is_one_sentence_and_the_right_exit_code(
    arguments: list[str],
    code: int,
    said: str,
    llavamed: Run,
    side: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    places = {"SIDE": str(side), "BROKEN.csv": str(tmp_path / "x.csv")}
    outcome = llavamed("build-data", *(places.get(item, item) for item in arguments), "--out", tmp_path / "out")
    assert outcome.code == code
    assert said in outcome.stderr and "Traceback" not in outcome.stderr
    assert outcome.stdout == ""


def test_another_run_in_the_folder_is_refused(llavamed: Run, side: Path, tmp_path: Path) -> None:
    assert llavamed("build-data", side, "--out", tmp_path / "out").code == 0
    outcome = llavamed("build-data", "phantoms:2", "--out", tmp_path / "out")
    assert outcome.code == 2 and "holds another run" in outcome.stderr and "rm -r" in outcome.stderr


def test_help_is_grouped_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from llavamed_cli.cli.app import main; main(['build-data', '--help']); "
        "print([m for m in ('torch', 'numpy', 'PIL', 'lxml', 'jinja2', 'transformers') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "What is kept" in shown and "Who writes conversations" in shown and "Examples" in shown
    assert shown.splitlines()[-1] == "[]"
