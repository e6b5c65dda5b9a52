"""How long `llavamed --help` takes beside a bare typer program:  python tests/benchmarks/help_time.py

Both are whole processes, alternating, medians of 11 runs. The aim: within 0.1 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 11
BARE = """
import typer

app = typer.Typer()


@app.callback()
def root() -> None:
    return


@app.command()
def greet(name: str, loud: bool = False) -> None:
    print(name)


app()
"""


def seconds(command: list[str]) -> float:
    """Wall seconds of one run."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print both medians, their difference and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE)
        commands = {
            "bare typer": [sys.executable, str(bare), "--help"],
            "llavamed": [sys.executable, "-m", "llavamed_cli", "--help"],
        }
        for command in commands.values():
            seconds(command)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                times[name].append(seconds(command))
    medians = {name: statistics.median(measured) for name, measured in times.items()}
    for name, median in medians.items():
        print(f"{name:12} {median:.3f} s")
    bare_time, ours = medians["bare typer"], medians["llavamed"]
    print(f"difference   {ours - bare_time:+.3f} s (ratio {ours / bare_time:.2f})")


if __name__ == "__main__":
    main()
