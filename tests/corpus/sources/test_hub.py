from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from llavamed_cli import hub_data
from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources import hub
from llavamed_cli.corpus.sources.hub import hub_batches
from llavamed_cli.errors import FetchError, UsageError
from llavamed_cli.hub_data import HubName, parse_hub_name
from llavamed_cli.progress import Silent

Draw = Callable[..., Path]


def read(name: str, tmp_path: Path, columns: tuple[str | None, str | None] = (None, None)) -> list[Any]:
    """What each row came to: (id, caption, licence, bytes), or a reason."""
    found: list[Any] = []
    for batch in hub_batches(parse_hub_name(name), columns, tmp_path / "scratch", Silent()):
        for item in batch.read():
            if isinstance(item, Rejection):
                found.append(item.detail)
            else:
                found.append((item.id, item.caption, item.source.license, item.picture.read_bytes()))
    return found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("owner/name", HubName("owner/name")),
        ("owner/name:test", HubName("owner/name", split="test")),
        ("owner/name@v1.0:test", HubName("owner/name", "v1.0", split="test")),
        ("owner/name@refs/pr/3", HubName("owner/name", "refs/pr/3")),
        ("owner/name:small:test", HubName("owner/name", config="small", split="test")),
    ],
)
def test_a_name_says_revision_and_split(text: str, name: HubName) -> None:
    assert parse_hub_name(text) == name


@pytest.mark.parametrize("text", ["", "a b", "../up", "@v1", "a/b@", "a/b/c", "a/b:", "a/b:c:d:e", "https://host/x"])
def test_a_name_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no name of a data set"):
        parse_hub_name(text)


@pytest.fixture
def image_folder(tmp_path: Path, draw: Draw) -> Path:
    """A data set of the Hub's image folder layout, with two splits and a card."""
    folder = tmp_path / "set"
    for split, count in (("train", 3), ("test", 1)):
        lines = []
        for number in range(count):
            draw(folder / split / f"{number}.png", seed=number)
            lines.append(
                json.dumps({"file_name": f"{number}.png", "text": f"{split} {number}", "id": f"{split}{number}"})
            )
        (folder / split / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense:\n- cc-by-4.0\n---\n# A set\n", encoding="utf-8")
    return folder


def test_an_image_folder_is_read_by_split(image_folder: Path, tmp_path: Path) -> None:
    bytes_of = [(image_folder / "train" / f"{n}.png").read_bytes() for n in range(3)]
    expected = [(f"train{n}", f"train {n}", "CC BY", bytes_of[n]) for n in range(3)]
    assert read(str(image_folder), tmp_path) == expected
    assert [row[:2] for row in read(f"{image_folder}:test", tmp_path)] == [("test0", "test 0")]
    with pytest.raises(UsageError, match="there is no split 'dev'; it has: train, test"):
        read(f"{image_folder}:dev", tmp_path)


def test_pictures_in_tables_come_with_their_bytes(tmp_path: Path) -> None:
    rows = {
        "image": [{"bytes": bytes([n]), "path": f"{n}.png"} for n in range(5)],
        "caption": [[f"first {n}", "second"] for n in range(5)],
        "other": ["x"] * 5,
    }
    (tmp_path / "set" / "data").mkdir(parents=True)
    parquet.write_table(pyarrow.table(rows), tmp_path / "set" / "data" / "train-0.parquet", row_group_size=2)
    found = read(str(tmp_path / "set"), tmp_path)
    assert found == [(f"set-train-{n + 1}", f"first {n}", None, bytes([n])) for n in range(5)]
    assert [row[1] for row in read(str(tmp_path / "set"), tmp_path, (None, "other"))] == ["x"] * 5


def test_columns_that_cannot_be_told_are_listed(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    table = pyarrow.table({"image": [{"bytes": b"x", "path": "x"}], "question": ["q"], "answer": ["a"]})
    parquet.write_table(table, tmp_path / "set" / "train.parquet")
    with pytest.raises(UsageError, match=r"question, answer could each be the caption; .*image \(picture\)"):
        read(str(tmp_path / "set"), tmp_path)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="any data files"):
        read(str(tmp_path / "empty"), tmp_path)


def test_a_hub_that_is_out_of_reach_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach https://hub/x?X-Signature=secret today\nmore")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(FetchError) as told:
        read("owner/name", tmp_path)
    assert str(told.value).startswith("hub:owner/name: Couldn't reach https://hub/x today")


class FakeSplit:
    """A streamed split whose rows name pictures in the repository."""

    features = None

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.rows)


def test_pictures_in_the_repository_are_fetched_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    paths = [
        "hf://datasets/owner/name@abc/a.png",
        "zip://b.png::hf://datasets/owner/name@abc/all.zip",
        "/etc/passwd",
        "file:///etc/passwd",
        "hf://datasets/other/private@main/c.png",
    ]
    rows = [{"image": {"bytes": None, "path": path}, "caption": f"caption {n}"} for n, path in enumerate(paths)]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": FakeSplit(rows)})
    monkeypatch.setattr(hub, "_license", lambda *_: "CC0")
    monkeypatch.setattr(hub_data, "remote_bytes", lambda path: path.encode())
    found = read("owner/name", tmp_path)
    assert [row[3].decode() for row in found[:2]] == paths[:2]
    assert len(found) == 5 and all("only local data may name files" in reason for reason in found[2:])
