"""Weights by their real SHA-256, prompts as transformers renders them, the machine."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from llavamed_cli.evaluation.answerers.answerer import Who
from llavamed_cli.evaluation.provenance import describe_machine, describe_models, first_prompt
from llavamed_cli.progress import Silent

ASKED = "<image>\nIs there a fracture?"


def test_weights_are_hashed_whole(tiny_model: Path) -> None:
    whos = {name: Who(text=name, kind="model", target=str(tiny_model), blind=name == "b") for name in "ab"}
    found = describe_models({**whos, "m": Who(text="majority", kind="majority")}, Silent())
    digest = hashlib.sha256((tiny_model / "model.safetensors").read_bytes()).hexdigest()
    assert set(found) == {"a", "b"} and found["a"] == found["b"]
    assert found["a"]["weights"] == {"model.safetensors": digest} and found["a"]["revision"] is None


def test_a_model_that_is_not_here_has_no_hash() -> None:
    found = describe_models({"a": Who(text="x", kind="model", target="nobody/nothing-of-this-name")}, Silent())
    assert found["a"]["weights"] == {}


def test_training_data_is_told_by_run_json(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"1")
    inputs = {"data 1": {"path": "data/instruct.jsonl", "sha256": "ab"}, "model": {"path": "m", "sha256": "cd"}}
    (tmp_path / "run.json").write_text(json.dumps({"inputs": inputs}))
    found = describe_models({"a": Who(text="x", kind="model", target=str(tmp_path))}, Silent())
    assert found["a"]["learned_from"] == {"data 1": ("data/instruct.jsonl", "ab")}


def test_a_prompt_is_shown_as_the_model_reads_it(tiny_model: Path) -> None:
    from transformers import AutoProcessor

    prompt = first_prompt(Who(text="x", kind="model", target=str(tiny_model)), ASKED)
    rendered = AutoProcessor.from_pretrained(tiny_model).apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is there a fracture?"}]}],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert prompt is not None and prompt.text == rendered
    asked = first_prompt(Who(text="x", kind="server", target="gpt"), ASKED)
    assert asked is not None and asked.text == ASKED
    assert first_prompt(Who(text="majority", kind="majority"), ASKED) is None


def test_the_machine_is_named() -> None:
    machine = describe_machine()
    assert machine["cores"] == os.cpu_count() and machine["processor"] and machine["memory_gib"] > 0
