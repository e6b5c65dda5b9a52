"""Answers from shared prefixes on a GPU's kernels: those of one question at a time on the same device."""

from __future__ import annotations

from pathlib import Path

import pytest

from llavamed_cli.model.answer_many import answer_many
from llavamed_cli.model.answer_room import AnswerRoom
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import load_model
from llavamed_cli.records import Turn

LENGTH = 16
ASKED = ("What?", "Is there a mass?", "Which organ is shown here, and why?")


def several(prompts: list[Prompt]) -> list[Prompt]:
    """Each question about each picture, and blind."""
    turns = [(Turn(speaker="human", text=f"<image>\n{text}"),) for text in ASKED]
    seen = [Prompt(turn, prompt.pictures) for prompt in prompts for turn in turns]
    return [*seen, *(Prompt((Turn(speaker="human", text=text),)) for text in ASKED)]


@pytest.mark.parametrize("read", [16_384, 300], ids=["one row", "several rows"])
def test_fp32_gives_the_same_tokens_and_confidence(
    device: str, read: int, tiny_model: Path, prompts: list[Prompt]
) -> None:
    loaded = load_model(str(tiny_model), device=device, precision="fp32")
    asked = several(prompts)
    found = answer_many(loaded, asked, max_new_tokens=LENGTH, room=AnswerRoom(10**6, read))
    alone = [answer_batch(loaded, [prompt], max_new_tokens=LENGTH)[0] for prompt in asked]
    assert [one.token_ids for one in found] == [one.token_ids for one in alone]
    assert [one.confidence for one in found] == pytest.approx([one.confidence for one in alone], abs=1e-4)


def test_bf16_differs_in_close_calls_alone(device: str, tiny_model: Path, prompts: list[Prompt]) -> None:
    """A first token that differs was about as likely as the other."""
    loaded = load_model(str(tiny_model), device=device, precision="bf16")
    asked = several(prompts)
    found = answer_many(loaded, asked, max_new_tokens=1)
    for prompt, one in zip(asked, found, strict=True):
        alone = answer_batch(loaded, [prompt], max_new_tokens=1)[0]
        assert one.confidence == pytest.approx(alone.confidence, rel=0.05)
