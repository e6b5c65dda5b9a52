"""How much memory is free on a device at this moment; in a container, what its limit leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llavamed_cli.model.precision import GB

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class FreeMemory:
    """Bytes that may be taken now, and who says so."""

    bytes: int
    source: str

    def sentence(self) -> str:
        """For a person."""
        return f"{self.bytes / GB:.2f} GB are free {self.source}"


def free_memory(device: str) -> FreeMemory:
    """Memory free on `cuda`, `mps` or `cpu`: on a CPU the smaller of what the system and its control group leave."""
    if device == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # PyTorch's own, to be used again
        return FreeMemory(free + kept, "on the GPU")
    import psutil

    system = FreeMemory(int(psutil.virtual_memory().available), "on this machine")
    if device == "mps":
        import torch

        left = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return min(system, FreeMemory(int(left), "for Apple's GPU"), key=lambda free: free.bytes)
    limits = (FreeMemory(left, "under this container's limit") for left in group_rooms(GROUPS, MEMBERSHIP))
    return min(system, *limits, key=lambda free: free.bytes)


def group_rooms(groups: Path, membership: Path) -> Iterator[int]:
    """What each control group that this process is in leaves, in bytes; none where there are no such groups.

    Both versions of Linux's control groups are read. File pages that were not touched lately count as free: the
    kernel drops them first (kernel.org, cgroup-v2, "memory.stat").
    """
    if not membership.is_file():
        return
    for line in membership.read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        if not controllers:
            yield from _rooms(groups, place, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _rooms(groups / "memory", place, *names)


def _rooms(mount: Path, place: str, limit_file: str, usage_file: str, droppable: str) -> Iterator[int]:
    """The group at `place` and every group above it; inside a container the mount itself is the container's group."""
    group = mount / place.strip("/")
    while True:
        try:
            limit = (group / limit_file).read_text().strip()
            usage = int((group / usage_file).read_text())
            stats = dict(row.split() for row in (group / "memory.stat").read_text().splitlines())
        except OSError:
            limit = "max"
        if limit != "max":
            yield max(0, int(limit) - usage + int(stats.get(droppable, 0)))
        if group == mount:
            return
        group = group.parent
