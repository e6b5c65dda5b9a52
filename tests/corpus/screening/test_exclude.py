from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from llavamed_cli.corpus.screening.deduplicate import Duplicate
from llavamed_cli.corpus.screening.exclude import read_excluded
from llavamed_cli.corpus.screening.picture_hash import hash_picture
from llavamed_cli.errors import UsageError
from llavamed_cli.files import file_sha256
from llavamed_cli.model.images import open_picture
from llavamed_cli.progress import Silent

Draw = Callable[..., Path]


def test_a_benchmarks_pictures_are_known_by_bytes_and_by_look(tmp_path: Path, draw: Draw) -> None:
    first = draw(tmp_path / "bench" / "test" / "a.png", seed=1)
    single = draw(tmp_path / "b.png", seed=2)
    other = draw(tmp_path / "c.png", seed=3)
    with read_excluded([tmp_path / "bench", single], tmp_path / "excluded.sqlite", Silent()) as excluded:
        assert (excluded.count, excluded.faults) == (2, ())
        for path, name in ((first, first), (single, single)):
            found = excluded.find(file_sha256(path), hash_picture(open_picture(path)))
            assert found == Duplicate(str(name), "bytes")
        Image.open(first).convert("L").resize((128, 96)).save(tmp_path / "again.jpg", quality=70)
        found = excluded.find(file_sha256(tmp_path / "again.jpg"), hash_picture(open_picture(tmp_path / "again.jpg")))
        assert found is not None and (found.id, found.by) == (str(first), "picture")
        assert excluded.find(file_sha256(other), hash_picture(open_picture(other))) is None


def test_hostile_pictures_are_told_and_the_others_excluded(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "bench" / "good.png")
    (tmp_path / "bench" / "broken.jpg").write_bytes(b"<html>")
    (tmp_path / "bench" / "notes.json").write_text("{}", encoding="utf-8")
    with read_excluded([tmp_path / "bench"], tmp_path / "x.sqlite", Silent()) as excluded:
        assert excluded.count == 1
        assert [Path(fault.where).name for fault in excluded.faults] == ["broken.jpg"]


def test_the_worst_pictures_do_no_harm(shared: Path, tmp_path: Path) -> None:
    with read_excluded([shared / "data" / "edge_images"], tmp_path / "x.sqlite", Silent()) as excluded:
        bad = {Path(fault.where).name for fault in excluded.faults}
        assert {"bomb_20000x20000.png", "empty.jpg", "html_named.jpg", "truncated.png"} <= bad
        assert excluded.count > len(bad)


def test_a_place_without_pictures_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder or picture"):
        read_excluded([tmp_path / "none"], tmp_path / "x.sqlite", Silent())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").touch()
    with pytest.raises(UsageError, match="no picture in it"):
        read_excluded([tmp_path / "empty"], tmp_path / "x.sqlite", Silent())
