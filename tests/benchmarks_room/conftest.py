"""Pictures and record files that the tests of several readers make."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Save a small picture of one grey under a name in the test's folder."""

    def save(name: str, grey: int = 0) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 4), grey).save(file)
        return file

    return save


@pytest.fixture
def write(tmp_path: Path) -> Draw:
    """Write records as a JSON list, or as JSON Lines, by the file's name."""

    def save(name: str, *records: Any) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(record) for record in records]
        file.write_text("\n".join(lines) if name.endswith("l") else f"[{','.join(lines)}]", encoding="utf-8")
        return file

    return save
