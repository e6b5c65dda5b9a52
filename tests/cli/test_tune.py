"""`llavamed tune`: what it shows before it trains, what it leaves, and a sentence for whatever is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


@pytest.fixture
def tune(llavamed: Run, data_folder: Path, tiny_model: Path) -> Run:
    """`llavamed tune` of the tiny model on the test data, with further options."""
    return lambda *options: llavamed("tune", data_folder, "--model", tiny_model, "--device", "cpu", *options)


def test_plan_counts_what_the_recipe_trains(tune: Run, tmp_path: Path) -> None:
    whole = json.loads(tune("--plan", "--json").stdout)
    low = json.loads(tune("--plan", "--json", "--lora-rank", 2).stdout)
    assert (whole["samples"], whole["pictures"], whole["steps"]) == (9, 8, 3)
    assert low["trained"] < whole["trained"] < whole["parameters"] < low["parameters"]
    text = tune("--plan", "--out", tmp_path / "out")
    assert text.code == 0, text.stderr
    assert f"{whole['trained']:,} of {whole['parameters']:,} trained" in text.stdout
    epoch = whole["epoch"]
    assert f"{epoch['tokens']:,} tokens, {epoch['supervised']:,} of them supervised" in text.stdout
    assert not (tmp_path / "out").exists()


def test_plan_for_named_cards_needs_no_weights(
    llavamed: Run, data_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A folder of config and tokenizer is enough, as for a 7B model on a laptop."""
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    options = ("--plan", "--hardware", "a100-80gb:8", "--quantise", "4bit", "--lora-rank", 4)
    outcome = llavamed("tune", data_folder, "--model", bare, *options)
    assert outcome.code == 0, outcome.stderr
    assert "on each of 8 devices" in outcome.stdout and "quantised" in outcome.stdout
    assert "8 x 312 TFLOP/s (a100-80gb) x 40% assumed utilisation" in outcome.stdout


def test_validation_is_told_recorded_and_keeps_the_best(tune: Run, data_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--steps", 3, "--batch-size", 4, "--validate", data_folder, "--validate-every", 1, "--patience", 2)
    outcome = tune("--out", out, *options)
    assert outcome.code == 0, outcome.stderr
    record = json.loads((out / "run.json").read_text())
    assert record["inputs"]["validation"]["path"] == str(data_folder)
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [step["validation_loss"] for step in metrics]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert "wanted 'It is black.', given" in outcome.stderr
    assert record["results"]["validation_loss"] == min(losses)


def test_length_of_rows_is_found_told_recorded_and_kept(tune: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--out", out, "--steps", 1, "--batch-size", 4, "--max-tokens", "auto")
    outcome = tune(*options)
    assert outcome.code == 0, outcome.stderr
    record = json.loads((out / "run.json").read_text())
    assert record["options"]["max_tokens"] == "auto"
    chosen = record["choices"]["max_tokens"]
    assert f"max_tokens: {chosen['value']} ({chosen['reason']})" in outcome.stderr
    assert int(chosen["value"]) % 256 == 0
    assert tune(*options).code == 0  # the same command: nothing differs


def test_the_sample_shown_marks_every_answer_and_nothing_else(tune: Run) -> None:
    outcome = tune("--show-sample")
    assert outcome.code == 0, outcome.stderr
    learned = re.findall("«(.*?)»", outcome.stdout.split("\n", 1)[1], re.DOTALL)
    assert learned == ["It is black.<|im_end|>", "Yes<|im_end|>"]
    as_json = json.loads(tune("--show-sample", "--json").stdout)
    assert as_json["id"] == "s0"
    assert [piece["text"] for piece in as_json["pieces"] if piece["supervised"]] == learned
    asked = "".join(piece["text"] for piece in as_json["pieces"] if not piece["supervised"])
    assert "What colour is it?" in asked and "Is there a stripe?" in asked


@pytest.mark.parametrize("rank", [0, 4])
def test_a_run_leaves_a_plain_model_and_is_done_once(rank: int, tune: Run, tmp_path: Path) -> None:
    from llavamed_cli.model.load import load_model

    out = tmp_path / "out"
    options = ("--out", out, "--steps", 2, "--batch-size", 4, "--lora-rank", rank, "--lr", "1e-3")
    outcome = tune(*options)
    assert outcome.code == 0, outcome.stderr
    first, second = outcome.stdout.splitlines()
    assert first == str(out)
    assert re.fullmatch(r"2 steps on 9 samples \(0 set aside\), loss \d\.\d{3} -> \d\.\d{3}", second)
    assert not any("lora" in name for name in load_model(str(out), device="cpu").model.state_dict())
    made = (out / "model.safetensors").stat().st_mtime_ns
    again = tune(*options)
    assert (again.code, again.stdout) == (0, outcome.stdout)
    assert "nothing to do" in again.stderr
    assert (out / "model.safetensors").stat().st_mtime_ns == made


def test_other_options_in_the_same_folder_are_refused_with_what_differs(tune: Run, tmp_path: Path) -> None:
    options = ("--out", tmp_path / "out", "--steps", 1, "--batch-size", 2)
    assert tune(*options).code == 0
    outcome = tune(*options, "--max-tokens", 512, "--train", "projector")
    assert outcome.code == 2
    assert "this folder holds another run" in outcome.stderr
    assert "max_tokens: 2048 there, 512 now" in outcome.stderr
    assert "train: ['projector', 'lm'] there, ['projector'] now" in outcome.stderr
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--out is missing"),
        (("--out", "OUT", "--quantise", "4bit"), "quantise: quantised weights cannot learn; give a lora_rank"),
        (("--out", "OUT", "--train", "projectr"), "unknown part 'projectr'"),
        (("--out", "OUT", "--train", "projector", "--lora-rank", "4"), "lora_rank: the language model is not trained"),
        (("--out", "OUT", "--epochs", "0"), "epochs: must be at least 1"),
        (("--out", "OUT", "--recipe", "nope.toml"), "no recipe 'nope.toml'"),
    ],
)
def test_bad_usage_is_2(options: tuple[str, ...], said: str, tune: Run, tmp_path: Path) -> None:
    outcome = tune(*(str(tmp_path / "out") if option == "OUT" else option for option in options))
    assert outcome.code == 2
    assert said in outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr and "bug in llavamed" not in outcome.stderr


def test_a_recipe_file_with_a_slip_is_named(tune: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("learning_rte = 1.0\n")
    outcome = tune("--out", tmp_path / "out", "--recipe", recipe)
    assert outcome.code == 2
    assert f"{recipe}: this recipe cannot be used" in outcome.stderr
    assert "unknown key 'learning_rte', did you mean 'learning_rate'?" in outcome.stderr


def test_a_model_without_a_tokenizer_is_named(
    llavamed: Run, data_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model, ignore=shutil.ignore_patterns("tokenizer*"))
    outcome = llavamed("tune", data_folder, "--model", model, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert f"{model}: no tokenizer could be loaded" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_folder_without_a_model_is_named(llavamed: Run, data_folder: Path, tmp_path: Path) -> None:
    for place, said in ((data_folder, "without config.json"), (tmp_path / "absent", "no such model folder")):
        outcome = llavamed("tune", data_folder, "--model", place, "--out", tmp_path / "out")
        assert outcome.code == 1
        assert str(place) in outcome.stderr and said in outcome.stderr
        assert "Traceback" not in outcome.stderr


def test_bad_lines_are_named_and_the_good_ones_kept(
    llavamed: Run, data_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A file of its own, its pictures elsewhere: --images says where."""
    good = (data_folder / "instruct.jsonl").read_text().splitlines()[0]
    record = json.loads(good)
    unmarked = {**record, "id": "unmarked", "conversations": [*record["conversations"]]}
    unmarked["conversations"][0] = {"from": "human", "value": "What?"}
    stranger = {**record, "id": "stranger", "conversations": [{"from": "robot", "value": "What?"}]}
    data = tmp_path / "mine.jsonl"
    data.write_text("\n".join([json.dumps(unmarked), good, "[1]", json.dumps(stranger), ""]))
    common = ("--model", tiny_model, "--out", tmp_path / "out", "--steps", 1, "--device", "cpu")
    outcome = llavamed("tune", data, "--images", data_folder / "images", *common)
    assert outcome.code == 0, outcome.stderr
    assert "1 steps on 1 samples (3 set aside)" in outcome.stdout
    assert "3 record(s) set aside, 1 kept:" in outcome.stderr
    assert f"{data}:1 (unmarked): 1 image(s) but 0 <image> marker(s)" in outcome.stderr
    assert f"{data}:3: expected an object, found list" in outcome.stderr
    assert f"{data}:4 (stranger): turn 1: unknown role 'robot'" in outcome.stderr


def test_many_bad_lines_are_all_named_by_reason(
    llavamed: Run, data_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    record = json.loads((data_folder / "instruct.jsonl").read_text().splitlines()[0])
    lost = [{**record, "id": f"lost{number}", "image": f"no-{number}.png"} for number in range(9)]
    strangers = [
        {**record, "id": f"odd{number}", "conversations": [{"from": "robot", "value": "?"}]} for number in range(5)
    ]
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in [record, *lost, *strangers]))
    outcome = llavamed("tune", data, "--images", data_folder / "images", "--model", tiny_model, "--show-sample")
    assert outcome.code == 0, outcome.stderr
    assert "14 record(s) set aside, 1 kept:" in outcome.stderr
    by_reason = [line for line in outcome.stderr.splitlines() if re.match(r"  \d+ x ", line)]
    assert len(by_reason) == 2
    for line, name, count in zip(by_reason, ("lost", "odd"), (9, 5), strict=True):
        assert line.startswith(f"  {count} x ")
        assert line.endswith(": " + ", ".join(f"{name}{number}" for number in range(count)))


def test_without_one_good_line_it_fails_and_says_why(llavamed: Run, tiny_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "mine.jsonl"
    data.write_text("nothing\n")
    outcome = llavamed("tune", data, "--model", tiny_model, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert f"{data}: no sample can be used" in outcome.stderr
    assert f"{data}:1: not JSON" in outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr


def test_a_learning_rate_that_blows_up_is_said(tune: Run, tmp_path: Path) -> None:
    outcome = tune("--out", tmp_path / "out", "--steps", 6, "--batch-size", 9, "--lr", "1e30")
    assert outcome.code == 1
    assert re.search(r"llavamed: the loss of step \d is (nan|inf)", outcome.stderr)
    assert "--lr" in outcome.stderr and "Traceback" not in outcome.stderr
    assert not (tmp_path / "out" / "config.json").exists()


def test_what_ran_out_of_memory_goes_on_with_shorter_rows(
    tune: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third row is one too many; what is learned does not depend on how rows are laid."""
    from llavamed_cli.training import learner
    from llavamed_cli.training.metrics import read_metrics

    real, calls = learner.row_loss, []

    def full(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")
        return real(*arguments)

    options = ("--steps", 4, "--batch-size", 3, "--lr", "1e-3", "--out")
    monkeypatch.setattr(learner, "row_loss", full)
    outcome = tune(*options, tmp_path / "out", "--max-tokens", 2048)
    assert outcome.code == 1
    assert "llavamed: memory ran out in step 3" in outcome.stderr
    assert "Step 2 is saved" in outcome.stderr and "a lower --max-tokens (now 2,048)" in outcome.stderr
    assert "Traceback" not in outcome.stderr and "bug in llavamed" not in outcome.stderr
    monkeypatch.setattr(learner, "row_loss", real)
    outcome = tune(*options, tmp_path / "out", "--max-tokens", 256)
    assert outcome.code == 0, outcome.stderr
    assert "going on after step 2" in outcome.stderr
    assert json.loads((tmp_path / "out" / "run.json").read_text())["options"]["max_tokens"] == 256
    assert tune(*options, tmp_path / "whole").code == 0
    found, whole = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("out", "whole"))
    assert [step["loss"] for step in found] == pytest.approx([step["loss"] for step in whole], abs=1e-4)


def test_other_data_under_an_unfinished_run_is_refused(
    tune: Run, llavamed: Run, data_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(data_folder, data)
    out = tmp_path / "out"
    command = ("tune", data, "--model", tiny_model, "--device", "cpu", "--out", out, "--steps", 2, "--batch-size", 2)
    assert llavamed(*command).code == 0
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "status": "running"}))
    lines = (data / "instruct.jsonl").read_text().splitlines()
    (data / "instruct.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    outcome = llavamed(*command)
    assert outcome.code == 2
    assert "input data 1: its content differs from what that run read" in outcome.stderr


def test_a_tracker_that_is_not_there_is_bad_usage(tune: Run, tmp_path: Path) -> None:
    outcome = tune("--out", tmp_path / "out", "--tracker", "tensorbord")
    assert outcome.code == 2
    assert "no tracker 'tensorbord', did you mean 'tensorboard'" in outcome.stderr
    assert not (tmp_path / "out").exists()
