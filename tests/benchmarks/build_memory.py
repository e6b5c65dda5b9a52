"""Does build-data's memory stay flat? Builds from many pairs and prints the most memory that was resident.

    python tests/benchmarks/build_memory.py [RECORDS] [WORKERS]      500,000 need 2 GB of disk, 20 minutes

Each pair has a picture of its own (noise, 48 x 48) and a caption of its own. Read from Linux's /proc, so it runs there
alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48
FOLDER_HOLDS = 10_000
POLL_SECONDS = 0.5


def make_pairs(folder: Path, records: int) -> Path:
    """Write the pictures and the JSON Lines file."""
    rng = np.random.default_rng(0)
    file = folder / "pairs.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for number in range(records):
            name = f"{number // FOLDER_HOLDS:03d}/{number:07d}.png"
            picture = folder / name
            if number % FOLDER_HOLDS == 0:
                picture.parent.mkdir()
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(picture, compress_level=0)
            side = "left" if number % 2 else "right"
            caption = f"Chest X-ray number {number} that shows a nodule of {number % 97} mm in the {side} lung."
            stream.write(json.dumps({"image": name, "caption": caption, "license": "CC0"}) + "\n")
    return file


def resident(process: int) -> dict[int, int]:
    """The most memory (KiB) that a process, and each of its children, has had resident so far."""
    found: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text(encoding="utf-8")
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        number, parent = int(status.parent.name), int(fields["PPid"])
        if process in (number, parent) and "VmHWM" in fields:
            found[number] = int(fields["VmHWM"].split()[0])
    return found


def main(records: int, workers: int) -> None:
    """Build and print."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = make_pairs(Path(folder), records)
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "llavamed_cli", "build-data", str(pairs), "--out", str(out), "--json"]
        started = time.monotonic()
        build = subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE, text=True)
        most: dict[int, int] = {}
        while build.poll() is None:
            for process, size in resident(build.pid).items():
                most[process] = max(most.get(process, 0), size)
            time.sleep(POLL_SECONDS)
        assert build.stdout is not None
        kept = json.loads(build.stdout.read())["kept"]
    seconds = time.monotonic() - started
    print(f"{records:,} pairs, {kept:,} kept, {workers} worker(s), {records / seconds:,.0f} records/s")
    print(f"most memory resident: {most.pop(build.pid) / 1024:.0f} MiB in the main process", end="")
    print("".join(f", {size / 1024:.0f} MiB in a worker" for size in most.values()))


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(*(numbers + [500_000, 1][len(numbers) :]))
