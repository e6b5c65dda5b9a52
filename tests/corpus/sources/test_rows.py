from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow
import pytest

from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.corpus.sources import rows
from llavamed_cli.corpus.sources.fields import one_caption
from llavamed_cli.corpus.sources.rows import Columns, Row, RowBatch, choose_columns, in_batches, read_row
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import Fault, Figure

PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
TEXT, NUMBER = pyarrow.string(), pyarrow.int64()
TEXTS = pyarrow.list_(TEXT)
COCO = pyarrow.list_(pyarrow.struct([("caption", TEXT), ("id", NUMBER)]))


def columns(*wanted: str | None, **types: pyarrow.DataType) -> Columns:
    schema = pyarrow.schema(list(types.items()))
    return choose_columns(schema, (*wanted, None, None)[:2], "a.parquet")


def test_columns_are_found_by_type_and_name() -> None:
    plain = columns(image=PICTURE, caption=TEXT, id=NUMBER, license=TEXT, width=NUMBER)
    assert plain == Columns(image="image", caption="caption", id="id", license="license")
    assert plain.names == ["image", "caption", "id", "license"]
    assert columns(scan=PICTURE, notes=TEXT, id=TEXT).caption == "notes"
    assert columns(scan=PICTURE, question=TEXT, text=TEXT).caption == "text"
    assert columns(image=PICTURE, mask=PICTURE, caption=TEXT, text=TEXT).image == "image"
    assert columns(jpg=pyarrow.large_binary(), txt=pyarrow.large_string()).image == "jpg"
    assert columns(file_name=TEXT, text=pyarrow.dictionary(pyarrow.int8(), TEXT)).image == "file_name"
    assert columns(image=PICTURE, captions=TEXTS).several and columns(image=PICTURE, captions=COCO).several


def test_columns_are_named_where_they_cannot_be_told() -> None:
    assert columns("mask", "b", image=PICTURE, mask=PICTURE, a=TEXT, b=TEXT) == Columns(image="mask", caption="b")
    with pytest.raises(UsageError, match=r"a, b could each be the caption; the columns are: image \(picture\), a "):
        columns(image=PICTURE, a=TEXT, b=TEXT)
    with pytest.raises(UsageError, match="one, two could each be the image") as told:
        columns(one=PICTURE, two=PICTURE, caption=TEXT)
    assert told.value.hint == "Name it with --image-column."
    with pytest.raises(UsageError, match="no column looks like the image"):
        columns(x=NUMBER, caption=TEXT)
    with pytest.raises(UsageError, match="no column 'captain'") as told:
        columns(None, "captain", image=PICTURE, caption=TEXT)
    assert told.value.hint == "Did you mean caption?"


@pytest.mark.parametrize(
    ("value", "caption"),
    [
        ("A  nodule\n here", "A nodule here"),
        (["", "first", "second"], "first"),
        ([{"id": 1, "caption": "first"}, {"id": 2, "caption": "second"}], "first"),
        ({"raw": "first", "tokens": ["f"]}, "first"),
        ({"de": "zuerst", "en": "first"}, "first"),
        ({"tokens": 3, "said": "first"}, "first"),
        (None, ""),
        ([], ""),
    ],
)
def test_a_caption_is_the_first_one_told(value: object, caption: str) -> None:
    assert one_caption(value) == caption


@pytest.mark.parametrize("value", [3, [3], {"caption": 3}, [[[[[["deep"]]]]]]])
def test_a_caption_that_is_no_text_is_a_fault(value: object) -> None:
    with pytest.raises(DataError, match="a caption must be text"):
        one_caption(value)


def batch(scratch: Path, *items: Row | Fault) -> RowBatch:
    return RowBatch(rows=items, kind="hub", file="hub:a/b:train", stem="b-train", license="CC0", scratch=scratch)


def test_each_picture_lies_there_while_its_figure_is_looked_at(tmp_path: Path) -> None:
    rows = (
        Row(number=1, picture=b"one", ending=".jpg", caption="A nodule.", id=7, license="cc-by-4.0", mentions=["M."]),
        Row(number=2, picture=b"two", caption=3),
        Fault(where="x:3", reason="broken"),
        Row(number=4, picture=b"four", id="../../up", caption="x"),
    )
    seen: list[tuple[str, bytes] | str | None] = []
    for item in pickle.loads(pickle.dumps(batch(tmp_path / "scratch", *rows))).read():
        if isinstance(item, Rejection):
            seen.append(item.detail)
        else:
            seen.append((item.id, item.picture.read_bytes()))
            assert len([file for file in (tmp_path / "scratch").rglob("*") if file.is_file()]) == 1
            last = item
    assert seen == [("7", b"one"), "a caption must be text, found int", "broken", ("../../up", b"four")]
    assert isinstance(last, Figure) and not last.picture.exists() and last.picture.is_relative_to(tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_figure_knows_its_row_and_its_licence(tmp_path: Path) -> None:
    rows = (
        Row(number=1, picture=b"1", caption="A nodule.", license="cc-by-4.0", mentions="It grew. It shrank."),
        Row(number=2, picture=b"2", caption=["first", "second"]),
    )
    one, two = batch(tmp_path, *rows).read()
    assert isinstance(one, Figure) and isinstance(two, Figure)
    assert (one.id, one.source.file, one.source.line, one.source.license) == (
        "b-train-1",
        "hub:a/b:train",
        1,
        "CC BY",
    )
    assert one.mentions == ("It grew.", "It shrank.")
    assert (two.id, two.caption, two.source.license) == ("b-train-2", "first", "CC0")


def test_a_reader_that_stops_early_leaves_nothing(tmp_path: Path) -> None:
    figures = batch(tmp_path / "scratch", *(Row(number=n, picture=b"x", caption="y") for n in range(3))).read()
    next(figures)
    figures.close()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_batches_are_small_in_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS_A_BATCH", 3)
    monkeypatch.setattr(rows, "BYTES_A_BATCH", 10)
    sizes = [1, 1, 1, 1, 20, 9, 2, 1]
    groups = list(in_batches(Row(number=n, picture=bytes(size)) for n, size in enumerate(sizes)))
    assert [len(group) for group in groups] == [3, 2, 2, 1]
    assert [row.number for group in groups for row in group if isinstance(row, Row)] == list(range(8))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "no picture"),
        ({"bytes": None, "path": None}, "no picture"),
        ({"bytes": None, "path": "../../etc/passwd"}, "lies outside"),
        ({"bytes": None, "path": "/etc/passwd"}, "lies outside"),
        (3, "must be bytes or a file's name, found int"),
    ],
)
def test_a_row_without_a_picture_is_named(value: object, told: str, tmp_path: Path) -> None:
    found = read_row({"i": value, "c": "x", "id": 5}, Columns(image="i", caption="c", id="id"), 9, "f", tmp_path)
    assert isinstance(found, Fault) and told in found.reason and (found.where, found.record_id) == ("f:9", "5")


def test_a_picture_is_bytes_or_a_file_that_local_data_names(tmp_path: Path) -> None:
    columns = Columns(image="i", caption="c")
    given = read_row({"i": {"bytes": b"x", "path": "a/b.PNG"}, "c": "x"}, columns, 1, "f", None)
    assert isinstance(given, Row) and (given.picture, given.ending) == (b"x", ".png")
    named = read_row({"i": "sub/a.jpg", "c": "x"}, columns, 1, "f", tmp_path)
    assert isinstance(named, Row) and named.picture == tmp_path / "sub/a.jpg"
    remote = read_row({"i": {"bytes": None, "path": "a.jpg"}, "c": "x"}, columns, 1, "f", None)
    assert isinstance(remote, Fault) and "only local data may name files" in remote.reason
