from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llavamed_cli.corpus.sources.object_cache import ObjectCache, locked
from llavamed_cli.errors import DataError

ADDS = """
import sys
from pathlib import Path
from llavamed_cli.corpus.sources.object_cache import locked
for _ in range(50):
    with locked(Path(sys.argv[1])) as stream:
        stream.write(b"(")
        stream.write(b")")
"""


def test_a_part_is_kept_with_its_etag_until_it_is_placed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache")
    assert not cache.folder.exists()
    with cache.part("a/b.jpg") as part:
        assert part.headers() == {}
        part.restart('"etag"')
        part.write(b"begun ")
    with cache.part("a/b.jpg") as part:
        assert part.headers() == {"Range": "bytes=6-", "If-Range": '"etag"'}
        part.write(b"and done")
        part.place(cache.path("a/b.jpg"))
    assert cache.path("a/b.jpg").read_bytes() == b"begun and done"
    assert not list((cache.folder / "parts").iterdir())
    assert cache.holds("a/b.jpg", hashlib.md5(b"begun and done").hexdigest()) and cache.holds("a/b.jpg", None)
    assert not cache.holds("a/b.jpg", "0" * 32) and not cache.holds("a", None)


@pytest.mark.parametrize("etag", [None, 'W/"weak"', ""])
def test_without_a_strong_etag_nothing_is_gone_on_with(etag: str | None, tmp_path: Path) -> None:
    with ObjectCache(tmp_path).part("a") as part:
        part.restart('"earlier"')
        part.restart(etag)
        part.write(b"begun")
        assert part.headers() == {}


def test_a_part_with_a_fault_or_without_a_byte_is_not_kept(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    with pytest.raises(DataError), cache.part("a") as part:
        part.restart('"etag"')
        part.write(b"begun")
        raise DataError("wrong")
    with cache.part("b"):
        pass
    assert not list((tmp_path / "parts").iterdir())
    with pytest.raises(RuntimeError), cache.part("c") as part:
        part.restart('"etag"')
        part.write(b"begun")
        raise RuntimeError("a kill")
    assert len(list((tmp_path / "parts").iterdir())) == 2


def test_keys_lie_apart_in_some_hundred_folders(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    keys = [f"PMC{number}.1/{name}" for number in range(500) for name in ("a", "A", "a.jpg", "a%2Fb", "a b")]
    paths = {cache.path(key) for key in keys}
    assert len(paths) == len(keys) and len({path.parts[len(tmp_path.parts) + 1] for path in paths}) > 200


def test_one_at_a_time_holds_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    others = [subprocess.Popen([sys.executable, "-c", ADDS, str(file)]) for _ in range(2)]
    for _ in range(50):
        with locked(file) as stream:
            stream.write(b"[")
            stream.write(b"]")
    assert [other.wait(timeout=30) for other in others] == [0, 0]
    assert file.read_bytes().replace(b"[]", b"").replace(b"()", b"") == b"" and file.stat().st_size == 300


def test_who_waited_for_a_file_that_was_moved_gets_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "file"

    def add() -> None:
        with locked(file) as stream:
            stream.write(b"mine")

    with locked(file) as stream:
        waiting = threading.Thread(target=add)
        waiting.start()
        threading.Event().wait(0.1)
        stream.write(b"theirs")
        file.replace(tmp_path / "moved")
    waiting.join(timeout=10)
    assert ((tmp_path / "moved").read_bytes(), file.read_bytes()) == (b"theirs", b"mine")
