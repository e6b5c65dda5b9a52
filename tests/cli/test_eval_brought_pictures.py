"""`llavamed eval` on a benchmark that brings its pictures: they go into the run's folder, or nothing does."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Run = Callable[..., Any]


def picture(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (level, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write_table(path: Path, answers: list[str], broken: int | None = None) -> Path:
    import pyarrow
    import pyarrow.parquet

    rows = [
        {
            "image": {"bytes": b"no picture" if number == broken else picture(number), "path": None},
            "question": f"Is it {number}?",
            "answer": answer,
        }
        for number, answer in enumerate(answers)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.fixture(params=["table", "hub"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """How the benchmark is named, and its file: a Parquet table, or a data set's folder as on the hub."""
    if request.param == "table":
        file = tmp_path / "set" / "test.parquet"
        return str(file), file
    file = tmp_path / "set" / "data" / "test-00000-of-00001.parquet"
    return f"hub:{tmp_path / 'set'}", file


def test_its_pictures_go_into_the_folder_and_a_repeated_run_is_done(
    llavamed: Run, serve: Any, bench: tuple[str, Path], tmp_path: Path
) -> None:
    name, file = bench
    write_table(file, ["yes", "no", "yes"])
    server, out = serve(), tmp_path / "out"
    server.reply = lambda body: "yes"
    for _ in range(2):
        outcome = llavamed("eval", "m", "--base-url", server.url, "--on", name, "--out", out, "--json")
        assert outcome.code == 0, outcome.stderr
    (read,) = json.loads(outcome.stdout)["benchmarks"].values()
    assert (read["n"], read["pictures"]) == (3, 3)
    assert len(list((out / "pictures").rglob("*.png"))) == 3
    assert len(server.sent) == 3 and set(server.sent.values()) == {1}


def test_one_that_is_refused_leaves_the_folder_for_a_corrected_command(
    llavamed: Run, serve: Any, bench: tuple[str, Path], tmp_path: Path
) -> None:
    name, file = bench
    write_table(file, ["yes", "no", "yes"], broken=1)
    server, out = serve(), tmp_path / "out"
    command = ["eval", "m", "--base-url", server.url, "--on", name, "--out", out]
    refused = llavamed(*command)
    assert refused.code == 1 and "1 question(s) cannot be asked" in refused.stderr and not server.sent
    skipped = llavamed(*command, "--missing", "skip")
    assert skipped.code == 0 and "1 record(s) set aside, 2 kept" in skipped.stderr, skipped.stderr
    assert len(server.sent) == 2


def test_an_interrupted_run_does_not_go_on_with_other_questions(
    llavamed: Run, serve: Any, openai_server: Any, bench: tuple[str, Path], tmp_path: Path
) -> None:
    name, file = bench
    write_table(file, ["yes", "no", "yes"])
    server, out = serve(lambda body, times: openai_server.error(401, "no such key")), tmp_path / "out"
    command = ["eval", "m", "--base-url", server.url, "--on", name, "--out", out]
    assert llavamed(*command).code == 1
    write_table(file, ["yes", "no", "no"])
    changed = llavamed(*command)
    assert changed.code == 2
    assert "has changed since this run began" in changed.stderr or "its content differs" in changed.stderr
