"""`llavamed ask` on pictures that leave a choice: `--window` and `--frame` make it, and what was chosen is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from llavamed_cli.model.images import read_picture
from llavamed_cli.model.load import LoadedModel
from llavamed_cli.model.picture import View

CT = get_testdata_file("CT_small.dcm", download=False)
CINE = get_testdata_file("examples_ybr_color.dcm", download=False)


def ask(llavamed: Callable[..., Any], model: Path, picture: object, *options: object) -> Any:
    outcome = llavamed("ask", picture, "What?", "--model", model, "--max-new-tokens", 2, "--json", *options)
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout), outcome.stderr


def test_a_window_is_applied_and_told(tiny_model: Path, llavamed: Callable[..., Any]) -> None:
    told, said = ask(llavamed, tiny_model, CT, "--window", "-600,1500")
    facts = told["pictures"][0]
    assert (facts["format"], facts["modality"], facts["window"], facts["notes"]) == ("DICOM", "CT", [-600, 1500], [])
    assert "CT_small" not in said


def test_what_was_chosen_is_said_on_stderr(tiny_model: Path, llavamed: Callable[..., Any]) -> None:
    told, said = ask(llavamed, tiny_model, CT)
    note = "the header names no window: scaled by its own range, -896 to 1167; --window picks another"
    assert told["pictures"][0]["notes"] == [note]
    assert f"CT_small.dcm: {note}" in said
    _, quiet = ask(llavamed, tiny_model, CT, "--quiet")
    assert note not in quiet


def test_a_frame_is_picked(tiny_model: Path, llavamed: Callable[..., Any]) -> None:
    told, said = ask(llavamed, tiny_model, CINE)
    assert (told["pictures"][0]["frame"], told["pictures"][0]["frames"]) == (15, 30)
    assert "frame 15 of 30 is shown" in said
    told, said = ask(llavamed, tiny_model, CINE, "--frame", 30)
    assert told["pictures"][0]["frame"] == 30
    assert "is shown" not in said


def test_the_window_reaches_the_model(
    tiny_model: Path, llavamed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures: list[Image.Image] = []
    look = LoadedModel.pixels

    def watched(loaded: LoadedModel, shown: list[Image.Image]) -> Any:
        pictures.extend(shown)
        return look(loaded, shown)

    monkeypatch.setattr(LoadedModel, "pixels", watched)
    for window in ((40, 400), (-600, 1500)):
        ask(llavamed, tiny_model, CT, "--window", f"{window[0]},{window[1]}")
        expected = read_picture(Path(CT), View(window=window)).image
        assert pictures.pop().tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--window", "40"), "--window is a centre and a width"),
        (("--window", "soft tissue"), "--window is a centre and a width"),
        (("--window", "40,0"), "a width above 0"),
        (("--frame", "0"), "counted from 1"),
        (("--frame", "2"), "the file has 1"),
    ],
)
def test_senseless_choices_exit_with_2(
    options: tuple[str, str], reason: str, tiny_model: Path, llavamed: Callable[..., Any]
) -> None:
    outcome = llavamed("ask", CT, "What?", "--model", tiny_model, *options)
    assert outcome.code == 2
    assert reason in outcome.stderr and "Traceback" not in outcome.stderr


def test_a_window_on_a_plain_picture_exits_with_2(
    tiny_model: Path, tmp_path: Path, llavamed: Callable[..., Any]
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    outcome = llavamed("ask", tmp_path / "a.png", "What?", "--model", tiny_model, "--window", "40,400")
    assert outcome.code == 2
    assert "this is a PNG" in outcome.stderr
