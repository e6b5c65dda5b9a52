"""Caches give back what was put in, bit for bit; what is torn, damaged or of another shape is not there."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llavamed_cli.progress import Silent
from llavamed_cli.training import feature_cache as room
from llavamed_cli.training.feature_cache import DiskCache, MemoryCache, open_folder

SHAPE = (5, 7)
MONTH = 31 * 24 * 3600


class Notes(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def disk(
    folder: Path, dtype: torch.dtype = torch.float32, *, leave: int = 0, progress: Silent | None = None
) -> DiskCache:
    folder.mkdir(exist_ok=True)
    return DiskCache(folder, SHAPE, dtype, leave=leave, progress=progress or Silent())


def drawn(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def a_picture(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_disk_gives_back_every_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    special = torch.tensor([float("inf"), -0.0, 1e-40])
    features = drawn(0, dtype)
    features[0, :3] = special
    cache = disk(tmp_path, dtype)
    assert cache.find("ab12") is None
    cache.keep("ab12", features)
    for opened in (cache, disk(tmp_path, dtype)):  # this run, and a later one
        found = opened.find("ab12")
        assert found is not None
        assert found.dtype == dtype
        assert torch.equal(found.view(torch.uint8), features.view(torch.uint8))


def test_a_view_of_a_batch_is_kept_alone(tmp_path: Path) -> None:
    batch = torch.stack([drawn(0), drawn(1)])
    memory, kept = MemoryCache(10**6), disk(tmp_path)
    for cache in (memory, kept):
        cache.keep("ab", batch[1])
    batch.zero_()
    for cache in (memory, kept):
        found = cache.find("ab")
        assert found is not None
        assert torch.equal(found, drawn(1))
        assert found.untyped_storage().nbytes() < 2 * drawn(1).untyped_storage().nbytes()


def test_equal_content_is_one_picture_on_disk(tmp_path: Path) -> None:
    one, copy = a_picture(tmp_path, "a.png", b"same"), a_picture(tmp_path, "b.png", b"same")
    other = a_picture(tmp_path, "c.png", b"other")
    cache = disk(tmp_path / "cache")
    assert cache.key(one) == cache.key(copy) != cache.key(other)
    before = cache.key(one)
    one.write_bytes(b"changed")
    assert cache.key(one) != before


@pytest.mark.parametrize("damage", ["cut", "empty", "a bit", "longer", "another shape"])
def test_a_damaged_file_is_as_if_it_were_not_there(damage: str, tmp_path: Path) -> None:
    cache = disk(tmp_path)
    cache.keep("ab", drawn(0))
    file = tmp_path / "ab" / "ab"
    content = file.read_bytes()
    assert len(content) == cache.file_size
    changed = {
        "cut": content[:-1],
        "empty": b"",
        "a bit": bytes([content[0] ^ 1]) + content[1:],
        "longer": content + b"\0",
        "another shape": content[4:],
    }
    file.write_bytes(changed[damage])
    assert cache.find("ab") is None
    cache.keep("ab", drawn(0))
    found = cache.find("ab")
    assert found is not None
    assert torch.equal(found, drawn(0))


def test_memory_keeps_to_its_limit() -> None:
    size = drawn(0).numel() * 4
    cache = MemoryCache(2 * size + 1)
    for number in range(3):
        cache.keep(str(number), drawn(number))
        cache.keep(str(number), drawn(number))  # again: takes no more room
    assert [cache.find(str(number)) is not None for number in range(3)] == [True, True, False]


def test_a_disk_that_fills_is_said_once_and_left_some_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    cache = disk(tmp_path, leave=1000, progress=notes)
    free = [1000 + cache.file_size, 1000 + cache.file_size - 1]
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free.pop(0)))
    for number in range(4):
        cache.keep(f"ab{number}", drawn(number))
    assert [cache.find(f"ab{number}") is not None for number in range(4)] == [True, False, False, False]
    assert len(notes.said) == 1
    assert "computed each time" in notes.said[0]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    notes = Notes()
    cache = disk(tmp_path, progress=notes)
    with monkeypatch.context() as patch:
        patch.setattr("llavamed_cli.files.Path.replace", full)
        cache.keep("ab", drawn(0))
    assert cache.find("ab") is None
    assert list((tmp_path / "ab").iterdir()) == []
    assert "No space left" in notes.said[0]


def _fill(folder: Path, rounds: int) -> None:
    cache = disk(folder)
    for _ in range(rounds):
        for number in range(8):
            found = cache.find(f"{number}0")
            assert found is None or torch.equal(found, drawn(number)), number
            cache.keep(f"{number}0", drawn(number))


def test_processes_that_write_at_once_never_see_half(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(tmp_path, 40)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {f"{number}0" for number in range(8)}


def test_a_folder_counts_what_it_holds_and_clears_away_what_is_old(tmp_path: Path) -> None:
    folder, forgotten, recent = tmp_path / "now", tmp_path / "forgotten", tmp_path / "recent"
    assert open_folder(folder) == 0
    cache = disk(folder)
    for number in range(3):
        cache.keep(f"ab{number}", drawn(number))
    long_ago = time.time() - MONTH
    for other in (forgotten, recent):
        open_folder(other)
    os.utime(forgotten / room.USED, (long_ago, long_ago))
    torn, writing = folder / "ab" / ".x.part", folder / "ab" / ".y.part"
    for file in (torn, writing):
        file.write_bytes(b"half")
    os.utime(torn, (long_ago, long_ago))
    assert open_folder(folder) == 3 * cache.file_size
    assert not forgotten.exists()
    assert recent.exists()
    assert not torn.exists()
    assert writing.exists()
