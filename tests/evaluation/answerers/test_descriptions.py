from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llavamed_cli.errors import DataError
from llavamed_cli.evaluation.answerers.descriptions import Description, Descriptions

MADE = [Description(image=f"{name}.png", expert="x", text=f"a {name}\nof two lines") for name in ("disc", "bar", "肺")]


def test_what_was_said_before_an_interruption_is_kept(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Description]:
        yield MADE[0]
        yield MADE[1]
        raise KeyboardInterrupt

    file = tmp_path / "new" / "d.jsonl"
    with pytest.raises(KeyboardInterrupt):
        Descriptions(file).keep(interrupted())
    with file.open("a") as torn:
        torn.write('{"image": "half')
    again = Descriptions(file)
    assert again.found == {"disc.png": MADE[0], "bar.png": MADE[1]}
    again.keep(MADE[2:])
    assert Descriptions(file).found == again.found and len(again.found) == 3


def test_without_a_file_nothing_is_written(tmp_path: Path) -> None:
    kept = Descriptions(None)
    kept.keep(MADE)
    assert set(kept.found) == {"disc.png", "bar.png", "肺.png"} and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("line", ['{"image": "p.png", "expert": 3, "description": "d"}', "[]", "nonsense"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "d.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"d\.jsonl:1.*\n.*Delete this file"):
        Descriptions(tmp_path / "d.jsonl")
