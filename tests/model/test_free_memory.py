"""Memory free now: what the kernel says, and less in a container that was given less."""

from __future__ import annotations

from pathlib import Path

import pytest

from llavamed_cli.model import free_memory
from llavamed_cli.model.free_memory import group_rooms

GIB = 2**30


def group(folder: Path, version: int, limit: int | str, usage: int, droppable: int = 0) -> None:
    """A control group's files, as the kernel shows them."""
    limit_file, usage_file, name = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit_file).write_text(f"{limit}\n")
    (folder / usage_file).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{name} {droppable}\n")


def rooms(tmp_path: Path, membership: str) -> list[int]:
    (tmp_path / "membership").write_text(membership)
    return list(group_rooms(tmp_path / "groups", tmp_path / "membership"))


def test_a_group_and_the_groups_above_it(tmp_path: Path) -> None:
    group(tmp_path / "groups" / "slice" / "job", 2, 8 * GIB, 3 * GIB, droppable=GIB)
    group(tmp_path / "groups" / "slice", 2, "max", 5 * GIB)
    group(tmp_path / "groups", 2, 16 * GIB, 15 * GIB)
    assert rooms(tmp_path, "0::/slice/job\n") == [6 * GIB, GIB]


def test_inside_a_container_the_mount_is_its_own_group(tmp_path: Path) -> None:
    group(tmp_path / "groups", 2, 4 * GIB, GIB)
    assert rooms(tmp_path, "0::/not/visible/here\n") == [3 * GIB]


def test_the_first_version(tmp_path: Path) -> None:
    group(tmp_path / "groups" / "memory" / "docker", 1, 2 * GIB, 3 * GIB, droppable=0)
    assert rooms(tmp_path, "8:cpu,cpuacct:/docker\n4:memory:/docker\n") == [0]  # over its limit: nothing, not less


def test_no_groups(tmp_path: Path) -> None:
    assert list(group_rooms(tmp_path, tmp_path / "absent")) == []
    assert rooms(tmp_path, "0::/\n") == []


def test_a_cpu_takes_the_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = free_memory.free_memory("cpu").bytes
    available = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    assert whole <= available * 1.2
    group(tmp_path, 2, 64 * 2**20, 0)
    (tmp_path / "membership").write_text("0::/\n")
    monkeypatch.setattr(free_memory, "GROUPS", tmp_path)
    monkeypatch.setattr(free_memory, "MEMBERSHIP", tmp_path / "membership")
    found = free_memory.free_memory("cpu")
    assert found.bytes == 64 * 2**20
    assert found.sentence() == "0.07 GB are free under this container's limit"
