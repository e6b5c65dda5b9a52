"""Texts by number from two files: what was written comes back, whatever it holds and however it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llavamed_cli.training import text_table
from llavamed_cli.training.text_table import TextTable, TextWriter

anything = st.text(st.characters(), max_size=6)
"""Surrogates as well: JSON may write half of a pair."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(texts=st.lists(anything, max_size=12), bounds=st.tuples(st.integers(0, 12), st.integers(0, 12)))
def test_texts_come_back(
    texts: list[str], bounds: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_table, "BLOCK", 5)
    with TextWriter(tmp_path / "table") as writer:
        for text in texts:
            writer.write(text)
    table = TextTable(tmp_path / "table")
    assert len(table) == len(texts)
    assert list(table) == texts == [table[number] for number in range(len(texts))]
    first, end = sorted(min(bound, len(texts)) for bound in bounds)
    assert table.texts(first, end) == texts[first:end]
    with pytest.raises(IndexError):
        table[len(texts)]
