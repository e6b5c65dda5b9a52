"""The example configurations are read by accelerate, and say to its launcher what their comments say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, prepare_multi_gpu_env

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "examples" / "accelerate").glob("*.yaml"))
EXPECTED: dict[str, tuple[DistributedType, int, int]] = {
    "ddp": (DistributedType.MULTI_GPU, 8, 1),
    "fsdp2": (DistributedType.FSDP, 8, 1),
    "two_nodes": (DistributedType.MULTI_GPU, 16, 2),
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_it(path: Path) -> None:
    """An unknown key is an error there."""
    config: Any = load_config_from_file(str(path))
    found = config.distributed_type, config.num_processes, config.num_machines
    assert found == EXPECTED[path.stem]
    assert config.mixed_precision == "no"


def test_every_example_is_looked_at() -> None:
    assert {path.stem for path in CONFIGS} == set(EXPECTED)


def test_fsdp_reaches_the_processes_as_the_code_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `accelerate launch` puts into the environment is what `sharding` looks for."""
    from accelerate import FullyShardedDataParallelPlugin

    from llavamed_cli.training.sharding import asked_to_shard

    path = ROOT / "examples" / "accelerate" / "fsdp2.yaml"
    parser = launch_command_parser()
    arguments, *_ = _validate_launch_command(parser.parse_args(["--config_file", str(path), "script.py"]))
    told = prepare_multi_gpu_env(arguments)
    for name, value in told.items():
        if name.startswith(("FSDP_", "ACCELERATE_USE_FSDP")):
            monkeypatch.setenv(name, value)
    assert asked_to_shard()
    plugin: Any = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.activation_checkpointing) == (2, True, False)


def test_the_launcher_says_what_is_wrong_with_a_config_of_another_kind(tmp_path: Path) -> None:
    """Or the first test would pass on anything."""
    bad = tmp_path / "bad.yaml"
    bad.write_text(CONFIGS[0].read_text() + "not_a_key: 1\n")
    with pytest.raises(ValueError, match="not_a_key"):
        load_config_from_file(str(bad))
    help_ = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--help"], capture_output=True, text=True, check=True
    )
    assert "--machine_rank" in help_.stdout and "--config_file" in help_.stdout
