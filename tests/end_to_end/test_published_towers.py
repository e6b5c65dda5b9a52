"""BiomedCLIP's and PubMedCLIP's towers as published, through all commands, into a folder of plain transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from llavamed_cli.model.load import load_model
from llavamed_cli.model.published.towers import read_tower
from llavamed_cli.model.vision_tower import build_tower

PACE = ("--steps", 2, "--batch-size", 2, "--max-tokens", 256)
QUESTION = "Is there a mass?"


@pytest.mark.parametrize(("name", "image_tokens"), [("biomed_clip", 9), ("pubmed_clip", 16)])
def test_a_published_tower_runs_through_the_chain(
    name: str, image_tokens: int, tmp_path: Path, llavamed: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    tower: Path = request.getfixturevalue(name)
    data, aligned, tuned, report = (tmp_path / part for part in ("data", "aligned", "tuned", "report"))

    def run(*arguments: object) -> str:
        outcome = llavamed(*arguments)
        assert outcome.code == 0, outcome.stderr
        return str(outcome.stdout)

    run("build-data", "phantoms:6", "--out", data)
    run("align", data, "--language-model", "tiny", "--vision-tower", tower, *PACE, "--out", aligned)
    run("tune", data, "--model", aligned, *PACE, "--out", tuned)
    run("eval", tuned, "--on", "phantoms:2", "--max-new-tokens", 4, "--out", report)
    picture = min((data / "images").iterdir())
    asked = json.loads(run("ask", picture, QUESTION, "--model", tuned, "--max-new-tokens", 8, "--json"))

    scores = json.loads((report / "scores.json").read_text())["benchmarks"]["phantoms"]["answerers"]
    assert set(scores) == {"tuned"}
    answer, logits = plain_transformers(tuned, picture)
    assert asked["answer"].strip() == answer
    loaded = load_model(str(tuned), device="cpu", precision="fp32")
    assert loaded.image_length == image_tokens
    assert torch.equal(logits_of(loaded.model, loaded.processor, picture), logits)
    assert_same_tower(tower, loaded.model, image_tokens)


def assert_same_tower(folder: Path, model: Any, image_tokens: int) -> None:
    """Frozen through both stages: the tower in the tuned model is the published one, number by number."""
    saved = model.model.vision_tower
    reading = read_tower(folder)
    assert (reading.size // reading.patch) ** 2 == image_tokens
    pixels = torch.randn(1, 3, reading.size, reading.size)
    alone = build_tower(reading, torch.float32, str(folder))
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in saved.state_dict().items())
    with torch.no_grad():
        assert torch.equal(saved(pixels).last_hidden_state, alone(pixels).last_hidden_state)


def inputs_of(processor: Any, picture: Path) -> Any:
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(text=text, images=Image.open(picture), return_tensors="pt")


def logits_of(model: Any, processor: Any, picture: Path) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(**inputs_of(processor, picture)).logits
    return logits


def plain_transformers(folder: Path, picture: Path) -> tuple[str, torch.Tensor]:
    """The answer and the prompt's logits for someone who does not have llavamed."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    processor = AutoProcessor.from_pretrained(folder)
    inputs = inputs_of(processor, picture)
    output = model.generate(**inputs, do_sample=False, max_new_tokens=8)
    answer = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    return answer, logits_of(model, processor, picture)
