"""A JSON list read value by value: the same values as `json.loads`, and the same faults on the same line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llavamed_cli import json_list
from llavamed_cli.errors import DataError
from llavamed_cli.json_list import read_json_list

words = st.text() | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none()
values = st.recursive(words, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def read(path: Path) -> list[Any]:
    return list(read_json_list(path, "data"))


@pytest.mark.parametrize("block", [1, 2, 7, 64])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(listed=st.lists(values, max_size=6), indent=st.sampled_from([None, 2]), escaped=st.booleans())
def test_values_cut_anywhere_are_read_as_json_reads_them(
    listed: list[Any], indent: int | None, escaped: bool, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_list, "BLOCK_BYTES", block)
    path = tmp_path / "data.json"
    text = json.dumps(listed, indent=indent, ensure_ascii=escaped)
    path.write_bytes(text.encode("utf-8", "surrogatepass") if not escaped else text.encode())
    assert read(path) == json.loads(text)


@pytest.mark.parametrize("block", [1, 5, 2**20])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[1",
        "[1,",
        "[1 2]",
        "[1,]",
        "[,1]",
        '["a',
        '[{"a": }]',
        "[tru]",
        "[1]\n\n2",
        "[\n1,\n\n{'a': 1}]",
        "[1}",
    ],
)
def test_a_broken_list_is_refused_on_the_line_that_json_names(
    text: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_list, "BLOCK_BYTES", block)
    path = tmp_path / "data.json"
    path.write_text(text)
    with pytest.raises(json.JSONDecodeError) as known:
        json.loads(text)
    with pytest.raises(DataError, match="data is not JSON") as found:
        read(path)
    assert found.value.where == f"{path}:{known.value.lineno}"


def test_one_record_a_line_under_the_wrong_name_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"name the file \.jsonl"):
        read(path)


def test_what_is_no_list_no_text_or_too_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text('{"a": [1]}')
    with pytest.raises(DataError, match="expected a JSON list of records, found dict"):
        read(path)
    path.write_bytes(b'["\xff"]')
    with pytest.raises(DataError, match="data is not UTF-8 text"):
        read(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        read(path)


def test_values_before_a_break_are_given_first(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text("[1, 2, oops]")
    found = read_json_list(path, "data")
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(DataError):
        next(found)
