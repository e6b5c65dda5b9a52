"""`run.json`: a folder belongs to one run; the same command goes on or is done, another one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli import __version__
from llavamed_cli.errors import OutputFolderError
from llavamed_cli.run_record import RUN_FILE, Run, begin_run


def begin(out: Path, data: Path, **changes: Any) -> Run:
    request: dict[str, Any] = {
        "command": "align",
        "options": {"lr": 1e-3, "train": ("projector",), "images": Path("pictures")},
        "inputs": {"data": data, "model": "owner/name"},
        "seed": 7,
    }
    request.update(changes)
    return begin_run(out, request.pop("command"), **request)


def got_going(out: Path) -> None:
    (out / "metrics.jsonl").write_text("{}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("{}")
    return path


def test_a_new_folder_says_how_it_is_made(tmp_path: Path, data: Path) -> None:
    run = begin(tmp_path / "out", data)
    assert not run.resumed
    assert not run.finished
    record = json.loads((tmp_path / "out" / RUN_FILE).read_text())
    assert record["status"] == "running"
    assert record["command"] == "align"
    assert record["options"] == {"lr": 1e-3, "train": ["projector"], "images": "pictures"}
    assert record["seed"] == 7
    assert record["inputs"]["data"]["path"] == str(data)
    assert record["inputs"]["model"] == {"name": "owner/name"}
    assert record["versions"]["llavamed"] == __version__
    assert {"python", "torch", "transformers"} <= set(record["versions"])


def test_the_same_command_goes_on_then_is_done(tmp_path: Path, data: Path) -> None:
    first = begin(tmp_path / "out", data)
    first.choose("device", "cpu", "no GPU here")
    got_going(tmp_path / "out")
    again = begin(tmp_path / "out", data)
    assert again.resumed
    assert not again.finished
    again.finish(steps=3)
    done = begin(tmp_path / "out", data)
    assert done.finished
    assert not done.resumed
    assert done.results == {"steps": 3}
    assert done.record["choices"] == {"device": {"value": "cpu", "reason": "no GPU here"}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": "tune"}, "command: align there, tune now"),
        ({"seed": 8}, "--seed: 7 there, 8 now"),
        ({"options": {"lr": 2e-3, "train": ("projector",), "images": Path("pictures")}}, "lr: 0.001 there, 0.002 now"),
        ({"options": {"lr": 1e-3, "train": ("projector",)}}, "images: 'pictures' there, None now"),
    ],
)
def test_another_command_is_refused_and_told_what_differs(
    tmp_path: Path, data: Path, change: dict[str, Any], said: str
) -> None:
    begin(tmp_path / "out", data)
    got_going(tmp_path / "out")
    before = (tmp_path / "out" / RUN_FILE).read_bytes()
    with pytest.raises(OutputFolderError) as refused:
        begin(tmp_path / "out", data, **change)
    assert said in refused.value.what
    assert f"rm -r {tmp_path / 'out'}" in str(refused.value.hint)
    assert (tmp_path / "out" / RUN_FILE).read_bytes() == before


def test_a_run_that_failed_before_it_wrote_anything_holds_no_folder(tmp_path: Path, data: Path) -> None:
    begin(tmp_path / "out", data)
    run = begin(tmp_path / "out", data, seed=8)
    assert not run.resumed
    assert json.loads((tmp_path / "out" / RUN_FILE).read_text())["seed"] == 8


def test_a_changed_input_is_noticed_and_a_moved_one_is_not(tmp_path: Path, data: Path) -> None:
    begin(tmp_path / "out", data)
    got_going(tmp_path / "out")
    moved = data.rename(tmp_path / "elsewhere.jsonl")
    assert begin(tmp_path / "out", moved).resumed
    moved.write_text("{} ")
    with pytest.raises(OutputFolderError, match="input data: its content differs"):
        begin(tmp_path / "out", moved)


def test_a_folder_with_files_of_others_is_left_alone(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    with pytest.raises(OutputFolderError, match="not an empty folder"):
        begin(out, data)
    assert [file.name for file in out.iterdir()] == ["thesis.tex"]
    with pytest.raises(OutputFolderError, match="not an empty folder"):
        begin(data, data)


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path: Path, data: Path) -> None:
    with pytest.raises(OutputFolderError, match="cannot be made"):
        begin(data / "below_a_file", data)


def test_a_run_killed_while_it_claimed_the_folder_can_be_repeated(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / f".{RUN_FILE}.abc.part").write_text('{"form')
    assert not begin(out, data).resumed


@pytest.mark.parametrize("content", ["[]", '{"format": 99}'])
def test_a_run_record_that_is_none_is_refused(tmp_path: Path, data: Path, content: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / RUN_FILE).write_text(content)
    with pytest.raises(OutputFolderError):
        begin(out, data)


def test_some_options_may_change_while_a_run_is_unfinished(tmp_path: Path, data: Path) -> None:
    """Those that only set its speed: what ran out of memory goes on with less of it."""
    options = {"lr": 1e-3, "max_tokens": 2048}
    begin(tmp_path / "out", data, options=options)
    got_going(tmp_path / "out")
    slower = {**options, "max_tokens": 512}
    again = begin(tmp_path / "out", data, options=slower, may_change=("max_tokens",))
    assert again.resumed and again.record["options"] == slower
    with pytest.raises(OutputFolderError, match=r"lr: 0\.001 there, 0\.5 now"):
        begin(tmp_path / "out", data, options={**slower, "lr": 0.5}, may_change=("max_tokens",))
    again.finish(steps=1)
    with pytest.raises(OutputFolderError, match="max_tokens: 512 there, 2048 now"):
        begin(tmp_path / "out", data, options=options, may_change=("max_tokens",))
