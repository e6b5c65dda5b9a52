"""Files in and out: what a fault names, and that a write is whole or absent."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli import files
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import Fault

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def lines_of(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[Fault]]:
    faults: list[Fault] = []
    return list(files.read_jsonl(path, faults.append)), faults


def test_every_bad_line_is_named_and_the_good_ones_are_kept(tmp_path: Path) -> None:
    bad = [b"{broken", b"[1, 2]", b'"text"', b'{"a": "\xff"}', b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"]
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n".join([b'{"n": 1}', *bad, b"", b'{"n": 2}']))
    good, faults = lines_of(path)
    assert good == [(1, {"n": 1}), (len(bad) + 3, {"n": 2})]
    assert [fault.where for fault in faults] == [f"{path}:{line}" for line in range(2, len(bad) + 2)]
    assert [fault.reason.split(":")[0] for fault in faults[:4]] == [
        "not JSON",
        "expected an object, found list",
        "expected an object, found str",
        "not UTF-8 text",
    ]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n": 1}\r\n')
    assert lines_of(path) == ([(1, {"n": 1})], [])


@given(st.lists(st.dictionaries(st.text(st.characters()), JSON_VALUES, max_size=3)))
def test_json_lines_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, records: list[Any]) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "records.jsonl"
    assert files.write_jsonl(path, records) == len(records)
    good, faults = lines_of(path)
    assert not faults
    assert [record for _, record in good] == records


def test_a_lone_surrogate_is_written_and_read_back(tmp_path: Path) -> None:
    records = [{"text": "\ud800"}]
    files.write_jsonl(tmp_path / "a.jsonl", records)
    files.write_json(tmp_path / "a.json", records)
    assert lines_of(tmp_path / "a.jsonl")[0] == [(1, records[0])]
    assert files.read_json(tmp_path / "a.json", "data") == records


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    files.write_text(path, "old")

    def fail() -> None:
        with files.atomic_write(path) as stream:
            stream.write("half")
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file modes")
def test_a_written_file_has_the_mode_that_the_umask_asks_for(tmp_path: Path) -> None:
    files.write_text(tmp_path / "ours", "x")
    (tmp_path / "theirs").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n!', r"data\.json:2: the data is not JSON"),
        (b"\xff\xfe\xfd", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 5000, "not JSON"),
    ],
)
def test_a_json_file_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        files.read_json(path, "the data")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the data does not exist"):
        files.read_json(tmp_path / "absent.json", "the data")
    with pytest.raises(UsageError, match="the data is a folder"):
        files.read_json(tmp_path, "the data")


def test_toml_is_read_and_its_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("a = 1\n[b]\nc = 'x'\n")
    assert files.read_toml(path, "recipe") == {"a": 1, "b": {"c": "x"}}
    path.write_text("a = \n")
    with pytest.raises(DataError, match=r"recipe\.toml: recipe is not TOML"):
        files.read_toml(path, "recipe")


def test_the_hash_of_a_file_is_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    (tmp_path / "x").write_bytes(content)
    assert files.file_sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()
    assert files.fingerprint(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_a_folders_fingerprint_sees_every_change_but_hidden_ones(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").write_text("one")
    (folder / ".cache").mkdir()
    first = files.fingerprint(folder)
    (folder / ".cache" / "x").write_text("hidden")
    assert files.fingerprint(folder) == first
    (folder / "deep" / "a").write_text("two")
    changed = files.fingerprint(folder)
    (folder / "deep" / "a").rename(folder / "deep" / "b")
    assert len({first, changed, files.fingerprint(folder)}) == 3


def test_a_large_file_is_told_apart_by_size_and_edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WHOLE_FILE_HASH_LIMIT", 8)
    monkeypatch.setattr(files, "EDGE_BYTES", 4)
    folder = tmp_path / "model"
    folder.mkdir()
    seen = set()
    for content in (b"headxxxxtail", b"HEADxxxxtail", b"headxxxxTAIL", b"headxxxxxtail"):
        (folder / "weights").write_bytes(content)
        seen.add(files.fingerprint(folder))
    assert len(seen) == 4


def test_json_is_written_for_people(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"name": "肺"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "name": "肺"\n}\n'
    assert json.loads(files.json_line({"a": "b\n"})) == {"a": "b\n"}
