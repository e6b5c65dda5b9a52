"""The five commands chained by a shell script, as a user and as CI would: examples/chain.sh on a model from nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_chain(out: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "examples" / "chain.sh"), str(out), "24", "1"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_chain_runs_and_repeats_without_work(tmp_path: Path) -> None:
    first = run_chain(tmp_path)
    assert first.returncode == 0, first.stderr
    *_, last = first.stdout.splitlines()
    assert set(json.loads(last)) >= {"answer", "confidence", "model", "version"}
    assert "not a medical device" in first.stderr
    weights = tmp_path / "tuned" / "model.safetensors"
    made = weights.stat().st_mtime_ns
    again = run_chain(tmp_path)
    assert again.returncode == 0, again.stderr
    assert weights.stat().st_mtime_ns == made, "a finished run was done again"
    for folder in ("data", "aligned", "tuned", "report"):
        assert json.loads((tmp_path / folder / "run.json").read_text())["status"] == "finished"
