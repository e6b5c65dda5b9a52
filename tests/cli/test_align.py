"""`llavamed align`: what it shows before it trains, what it leaves, and a sentence for whatever is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

PARTS = ("--language-model", "tiny", "--vision-tower", "tiny", "--device", "cpu")


def test_plan_says_what_it_would_take_and_writes_nothing(llavamed: Run, data_folder: Path, tmp_path: Path) -> None:
    outcome = llavamed("align", data_folder, *PARTS, "--plan", "--out", tmp_path / "out", "--batch-size", 3)
    assert outcome.code == 0, outcome.stderr
    heads = [line for line in outcome.stdout.splitlines() if not line.startswith(" ")]
    lines = dict(re.split(r"\s{2,}|(?<=epoch)\s+", line, maxsplit=1) for line in heads)
    assert lines["samples"] == "8 with 8 pictures"
    assert lines["steps"] == "3 of 3 samples, 3 an epoch"
    assert set(lines) == {"samples", "parameters", "an epoch", "computed", "packing", "steps", "memory", "time"}
    assert "from one row measured here" in lines["time"]
    assert "fits (" in lines["memory"] and "on this machine" in lines["memory"]
    assert not (tmp_path / "out").exists()


def test_plan_for_other_memory_and_another_rate(llavamed: Run, data_folder: Path) -> None:
    outcome = llavamed("align", data_folder, *PARTS, "--plan", "--memory", "0.001", "--rate", "10", "--json")
    assert outcome.code == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    assert told["fits"] is False
    assert told["remedies"] and told["machine"]["free"] == 10**6
    assert told["seconds"] == pytest.approx(told["epoch"]["laid"] / 10)


def test_plan_finds_how_long_rows_may_be(llavamed: Run, data_folder: Path) -> None:
    outcome = llavamed("align", data_folder, *PARTS, "--plan", "--rate", "10", "--max-tokens", "auto", "--json")
    assert outcome.code == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    assert told["epoch"]["rows"] == 1  # the machine has room for all of them side by side
    assert f"max_tokens: {told['recipe']['max_tokens']} (" in outcome.stderr


def test_plan_as_json(llavamed: Run, data_folder: Path) -> None:
    outcome = llavamed("align", data_folder, *PARTS, "--plan", "--json")
    assert outcome.code == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    assert (told["samples"], told["pictures"], told["steps"]) == (8, 8, 1)
    assert 0 < told["trained"] < told["parameters"]


def test_the_sample_shown_marks_the_answer_alone(llavamed: Run, data_folder: Path) -> None:
    outcome = llavamed("align", data_folder, *PARTS, "--show-sample")
    assert outcome.code == 0, outcome.stderr
    first, *rest = outcome.stdout.splitlines()
    assert first == "s0: what stands between « and » is learned"
    assert re.findall("«(.*?)»", "\n".join(rest), re.DOTALL) == ["A black field.<|im_end|>"]
    assert "<image> x 64\nDescribe it.<|im_end|>" in outcome.stdout
    assert "\033" not in outcome.stdout


def test_both_looks_are_one_json_document(llavamed: Run, data_folder: Path) -> None:
    outcome = llavamed("align", data_folder, *PARTS, "--show-sample", "--plan", "--json")
    told = json.loads(outcome.stdout)
    assert told["plan"]["samples"] == 8
    learned = [piece["text"] for piece in told["sample"]["pieces"] if piece["supervised"]]
    assert learned == ["A black field.<|im_end|>"]


def test_a_run_leaves_a_model_and_is_done_once(llavamed: Run, data_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    out = tmp_path / "out"
    command = ("align", data_folder, *PARTS, "--out", out, "--steps", 3, "--batch-size", 4, "--json")
    outcome = llavamed(*command)
    assert outcome.code == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    assert (told["out"], told["steps"], told["samples"], told["set_aside"]) == (str(out), 3, 8, 0)
    assert "device: cpu (asked for)" in outcome.stderr
    record = json.loads((out / "run.json").read_text())
    assert (record["command"], record["status"]) == ("align", "finished")
    assert {"device", "precision", "attention", "chat template"} <= set(record["choices"])
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    assert "<svg" in (out / "loss.svg").read_text()
    assert "not a medical device" in (out / "model-card.md").read_text()
    AutoProcessor.from_pretrained(out)
    AutoModelForImageTextToText.from_pretrained(out)

    made = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    again = llavamed(*command)
    assert again.code == 0
    assert json.loads(again.stdout) == told
    assert "is finished already; nothing to do" in again.stderr
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == made

    other = llavamed(*command, "--lr", "0.5", "--seed", 4)
    assert other.code == 2
    assert "this folder holds another run" in other.stderr
    assert "learning_rate: 0.001 there, 0.5 now" in other.stderr
    assert "--seed: 0 there, 4 now" in other.stderr
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == made


def test_a_template_asked_for_is_used(llavamed: Run, data_folder: Path) -> None:
    outcome = llavamed("align", data_folder, *PARTS, "--show-sample", "--template", "vicuna_v1")
    assert outcome.code == 0, outcome.stderr
    assert "USER: <image> x 64\nDescribe it. ASSISTANT:« A black field.<|im_end|>»" in outcome.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--out is missing"),
        (("--out", "OUT", "--template", "llama9"), "no chat template 'llama9', there are chatml"),
        (("--out", "OUT", "--recipe", "nope"), "no recipe 'nope'"),
        (("--out", "OUT", "--lr", "0", "--batch-size", "0"), "batch_size: must be at least 1"),
        (("--out", "OUT", "--device", "tpu"), "unknown device 'tpu'"),
        (("--out", "OUT", "--precision", "fp8"), "unknown precision 'fp8'"),
        (("--out", "OUT", "--seed", "-1"), "--seed: expected 0 or more"),
        (("--out", "OUT", "--max-tokens", "many"), "--max-tokens: expected a whole number or auto, found 'many'"),
        (("--out", "OUT", "--rate", "10"), "--rate: this is for --plan"),
        (("--plan", "--memory", "0"), "--memory: must be above 0"),
        (("--plan", "--hardware", "abacus:8"), "unknown hardware 'abacus:8', expected NAME or NAME:COUNT of a100-40gb"),
        (("--out", "OUT", "--patience", "3"), "there is nothing to validate on"),
        (("--out", "OUT", "--recipe", "one-gpu-24gb"), "low-rank additions and quantised weights are for tune"),
    ],
)
def test_bad_usage_is_2(options: tuple[str, ...], said: str, llavamed: Run, data_folder: Path, tmp_path: Path) -> None:
    given = [str(tmp_path / "out") if option == "OUT" else option for option in options]
    outcome = llavamed("align", data_folder, *PARTS, *given)
    assert outcome.code == 2
    assert said in outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr and "bug in llavamed" not in outcome.stderr


def test_data_that_is_not_there_is_2(llavamed: Run, tmp_path: Path) -> None:
    absent = llavamed("align", tmp_path / "absent", *PARTS, "--out", tmp_path / "out")
    empty = llavamed("align", tmp_path, *PARTS, "--out", tmp_path / "out")
    assert (absent.code, empty.code) == (2, 2)
    assert "no such data file or folder" in absent.stderr
    assert "the folder has no align.jsonl" in empty.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["--language-model", "--vision-tower"])
def test_a_part_that_is_no_model_is_named(part: str, llavamed: Run, data_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    outcome = llavamed("align", data_folder, *PARTS, part, folder, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert str(folder) in outcome.stderr
    assert "Traceback" not in outcome.stderr and "bug in llavamed" not in outcome.stderr


def test_a_language_model_without_a_tokenizer_is_named(llavamed: Run, data_folder: Path, tmp_path: Path) -> None:
    from llavamed_cli.model.tiny import tiny_language_model

    folder = tmp_path / "words"
    model: Any = tiny_language_model(320, seed=0)
    model.save_pretrained(folder)
    outcome = llavamed("align", data_folder, *PARTS, "--language-model", folder, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert f"{folder}: no tokenizer could be loaded" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_bad_records_are_named_and_the_good_ones_kept(llavamed: Run, data_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(data_folder, data)
    good = (data / "align.jsonl").read_text()
    broken = json.loads(good.splitlines()[0]) | {"id": "lost", "image": "lost.png"}
    (data / "align.jsonl").write_text(f"{{oops\n{good}{json.dumps(broken)}\n")
    command = ("align", data, *PARTS, "--steps", 1, "--batch-size", 2, "--out", tmp_path / "out", "--json")
    outcome = llavamed(*command)
    assert outcome.code == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    assert (told["samples"], told["set_aside"]) == (8, 2)
    assert "2 record(s) set aside, 8 kept:" in outcome.stderr
    assert f"{data / 'align.jsonl'}:1: not JSON" in outcome.stderr
    assert (
        f"{data / 'align.jsonl'}:10 (lost): picture {data / 'images' / 'lost.png'}: no such picture" in outcome.stderr
    )


def test_without_one_good_record_it_fails_and_says_why(llavamed: Run, tmp_path: Path) -> None:
    (tmp_path / "align.jsonl").write_text('{oops\n{"id": "a", "conversations": []}\n')
    outcome = llavamed("align", tmp_path, *PARTS, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "no sample can be used" in outcome.stderr
    assert f"{tmp_path / 'align.jsonl'}:1: not JSON" in outcome.stderr
    assert f"{tmp_path / 'align.jsonl'}:2 (a): no conversation" in outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr


def test_a_run_that_failed_may_be_repeated_with_other_options(llavamed: Run, data_folder: Path, tmp_path: Path) -> None:
    """Nothing was written by the first but its claim, so the folder is not lost to the slip."""
    command = ("align", data_folder, *PARTS, "--out", tmp_path / "out", "--steps", 1, "--batch-size", 2)
    assert llavamed(*command, "--template", "llama9").code == 2
    outcome = llavamed(*command)
    assert outcome.code == 0, outcome.stderr
