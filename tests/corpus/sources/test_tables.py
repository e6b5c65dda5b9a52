from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources.tables import holds_tables, table_batches
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.progress import Silent

Draw = Callable[..., Path]


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def read(source: Path, tmp_path: Path, *, images: Path | None = None, notes: Notes | None = None) -> list[Any]:
    """What each row came to: (id, caption, licence, bytes), or a reason."""
    found: list[Any] = []
    for batch in table_batches(source, images, (None, None), tmp_path / "scratch", notes or Notes()):
        for item in batch.read():
            if isinstance(item, Rejection):
                found.append(item.detail)
            else:
                found.append((item.id, item.caption, item.source.license, item.picture.read_bytes()))
    return found


def table(file: Path, rows: int, *, first: int = 0, group: int = 2, **columns: list[Any]) -> Path:
    pictures = [{"bytes": bytes([number]), "path": f"{number}.png"} for number in range(first, first + rows)]
    captions = [f"caption {number}" for number in range(first, first + rows)]
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table({"image": pictures, "caption": captions, **columns}), file, row_group_size=group)
    return file


def test_rows_are_figures_whatever_the_row_groups(tmp_path: Path) -> None:
    for group in (1, 3, 1000):
        file = table(tmp_path / "t.parquet", 40, group=group)
        expected = [(f"t-{n + 1}", f"caption {n}", None, bytes([n])) for n in range(40)]
        assert read(file, tmp_path) == expected
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_folder_of_tables_has_the_licence_of_its_card(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    table(folder / "data" / "train-00001.parquet", 1, first=1)
    table(folder / "data" / "train-00000.parquet", 1, license=["cc0-1.0"])
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A set\n", encoding="utf-8")
    assert holds_tables(folder) and not holds_tables(tmp_path / "set" / "none")
    assert read(folder, tmp_path) == [
        ("data/train-00000-1", "caption 0", "CC0", b"\0"),
        ("data/train-00001-1", "caption 1", "CC BY-NC", b"\1"),
    ]


def test_several_captions_are_said_to_be_so(tmp_path: Path, draw: Draw) -> None:
    picture = draw(tmp_path / "pictures" / "a.png")
    columns = {"file_name": ["a.png", "../a.png"], "captions": [["first", "second"], ["x"]]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    notes = Notes()
    one, outside = read(tmp_path / "t.parquet", tmp_path, images=tmp_path / "pictures", notes=notes)
    assert one == ("t-1", "first", None, picture.read_bytes()) and "lies outside" in outside
    assert len(notes.notes) == 1 and "the first is taken" in notes.notes[0]


def test_a_damaged_file_is_refused_alone_and_set_aside_among_others(tmp_path: Path) -> None:
    whole = table(tmp_path / "set" / "b.parquet", 4).read_bytes()
    for data in (b"", b"no parquet at all", whole[: len(whole) // 2]):
        (tmp_path / "set" / "a.parquet").write_bytes(data)
        with pytest.raises(DataError, match="not a readable Parquet file"):
            read(tmp_path / "set" / "a.parquet", tmp_path)
        reason, *others = read(tmp_path / "set", tmp_path)
        assert "not a readable Parquet file" in reason and len(others) == 4


def test_a_row_that_is_no_text_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    bad = pyarrow.array([b"good", b"\xff\xfe", b"kept"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"image": [b"1", b"2", b"3"], "caption": bad}), tmp_path / "t.parquet")
    first, reason, third = read(tmp_path / "t.parquet", tmp_path)
    assert (first[:2], reason, third[:2]) == (("t-1", "good"), "not UTF-8 text", ("t-3", "kept"))


def test_columns_that_cannot_be_told_are_asked_for(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"image": [b"1"], "a": ["x"], "b": ["y"]}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="a, b could each be the caption"):
        read(tmp_path / "t.parquet", tmp_path)
    batches = list(table_batches(tmp_path / "t.parquet", None, (None, "b"), tmp_path / "scratch", Silent()))
    assert [item.caption for batch in batches for item in batch.read() if not isinstance(item, Rejection)] == ["y"]
