"""Two GPUs over NCCL: whole weights and weights in shards learn the same. test_distributed.py does so on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llavamed_cli.training.metrics import read_metrics

SCRIPT = Path(__file__).resolve().parents[1] / "training" / "two_processes.py"
SCENARIOS = ("full", "lora", "sharded", "sharded_lora", "sharded_validated")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two CUDA devices are needed")
def test_two_gpus_learn_the_same_whole_or_in_shards(tiny_model: Path, data_folder: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT)]
    command = [*launch, str(tiny_model), str(data_folder), str(tmp_path), "cuda", *SCENARIOS]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    whole, shards = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("full", "sharded_whole"))
    assert [step["loss"] for step in shards] == pytest.approx([step["loss"] for step in whole], rel=1e-4)
    for name in ("lora", "sharded", "sharded_lora"):
        lead = json.loads((tmp_path / f"{name}-0.json").read_text())
        assert lead["left"] == "interrupted" and lead["repeated"][0] == "going on after step 3"
