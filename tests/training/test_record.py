"""What a run leaves beside the weights: a curve that can be read, and a card that claims nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lxml import etree

from llavamed_cli.training.record import draw_loss_curve, write_model_card

STEPS = [{"step": number, "loss": 5.0 / number} for number in range(1, 41)]


def test_the_curve_is_a_picture_with_a_point_a_step(tmp_path: Path) -> None:
    draw_loss_curve(STEPS, tmp_path / "loss.svg")
    picture = etree.parse(tmp_path / "loss.svg").getroot()
    assert etree.QName(picture).localname == "svg"
    lines = [path.get("d", "") for path in picture.iter("{*}path")]
    assert sum(line.count("L") >= len(STEPS) - 1 for line in lines) == 2  # the losses, and their mean


def test_one_step_is_a_curve_too(tmp_path: Path) -> None:
    draw_loss_curve(STEPS[:1], tmp_path / "loss.svg")
    assert (tmp_path / "loss.svg").stat().st_size > 1000


def test_the_card_says_what_it_was_made_from_and_what_it_is_not(tmp_path: Path) -> None:
    record: dict[str, Any] = {
        "command": "tune",
        "seed": 3,
        "inputs": {
            "model": {"name": "owner/name"},
            "data 1": {"path": "/home/someone/private/instruct.jsonl", "sha256": "0123456789abcdef" * 4},
        },
        "options": {"learning_rate": 2e-5, "train": ["projector"]},
        "versions": {"torch": "2.13.0"},
    }
    write_model_card(tmp_path, record, STEPS)
    card = (tmp_path / "model-card.md").read_text()
    for said in (
        "not a medical device",
        "llavamed tune",
        "- model: `owner/name`",
        "- data 1: `instruct.jsonl`, SHA-256 `0123456789abcdef`",
        "40 steps, loss 5.000 at first, 0.125 at last; seed 3",
        "| learning_rate | 2e-05 |",
        "torch 2.13.0",
    ):
        assert said in card
    assert "/home/someone" not in card  # a card is published; whose machine it was is nobody's business
