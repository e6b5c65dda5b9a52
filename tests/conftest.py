"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from llavamed_cli.cli.app import main

hypothesis.settings.register_profile("shared machine", deadline=None)  # a busy neighbour is no fault of an example
hypothesis.settings.load_profile("shared machine")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and oracles beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside this checkout")
    return SHARED


@dataclass(frozen=True)
class Outcome:
    """What one command line did."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def llavamed(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command line in this process: `llavamed("ask", picture, "question")`."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code=code, stdout=captured.out, stderr=captured.err)

    return call


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved LLaVA of the `tiny` parts, untrained."""
    import torch

    from llavamed_cli.model.assemble import assemble
    from llavamed_cli.model.save import save_model

    folder = tmp_path_factory.mktemp("model") / "tiny"
    made = assemble("tiny", "tiny", dtype=torch.float32, seed=0)
    save_model(made.model, made.processor, folder)
    return folder


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What build-data would leave: eight coloured pictures, align.jsonl with a caption each, instruct.jsonl with two
    rounds about each and one conversation without a picture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    captions, dialogues = [], []
    for number, colour in enumerate(("black", "white", "red", "green", "blue", "gray", "pink", "brown")):
        picture = Image.new("RGB", (40, 24), colour)
        picture.paste("yellow", (4 * number, 4, 4 * number + 4, 20))
        picture.save(folder / "images" / f"{number}.png")
        asked = [f"<image>\nWhat colour is it{'?' * (number + 1)}", f"It is {colour}.", "Is there a stripe?", "Yes"]
        for records, texts in ((captions, ["<image>\nDescribe it.", f"A {colour} field."]), (dialogues, asked)):
            turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]
            records.append({"id": f"s{number}", "image": f"{number}.png", "conversations": turns})
    words = [{"from": "human", "value": "What is a lung?"}, {"from": "gpt", "value": "An organ that breathes."}]
    dialogues.append({"id": "words", "conversations": words})
    for name, records in (("align", captions), ("instruct", dialogues)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder
