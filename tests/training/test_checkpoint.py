"""Checkpoints: what is written is read back bit for bit; what is torn, a stranger's or another run's is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from llavamed_cli.errors import TrainingError
from llavamed_cli.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def checkpoint(step: int) -> Checkpoint:
    """What a run would leave after `step` steps of a model of one weight."""
    generator = torch.Generator().manual_seed(step)
    weight = torch.nn.Parameter(torch.randn(3, 4, generator=generator))
    optimizer = torch.optim.AdamW([weight])
    for _ in range(step):
        weight.grad = torch.randn(3, 4, generator=generator)
        optimizer.step()
    return Checkpoint(step, {"a.weight": weight}, optimizer.state_dict(), generator.get_state())


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    written = checkpoint(3)
    save_checkpoint(tmp_path, written, identity="run", keep=2)
    read = load_checkpoint(tmp_path, identity="run")
    assert read is not None
    assert read.step == 3
    assert torch.equal(read.weights["a.weight"], written.weights["a.weight"])
    assert torch.equal(read.random_state, written.random_state)
    assert read.optimizer["param_groups"] == written.optimizer["param_groups"]
    moments, expected = read.optimizer["state"][0], written.optimizer["state"][0]
    assert moments.keys() == expected.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert all(torch.equal(moments[name], expected[name]) for name in expected)


def test_weights_of_a_transposed_view_are_kept_too(tmp_path: Path) -> None:
    table = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path, Checkpoint(1, {"t": table.T}, {}, torch.get_rng_state()), identity="run", keep=1)
    read = load_checkpoint(tmp_path, identity="run")
    assert read is not None
    assert torch.equal(read.weights["t"], table.T)


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, identity="run") is None


def test_the_last_few_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (1, 2, 9, 10):
        save_checkpoint(tmp_path, checkpoint(step), identity="run", keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000009", "step-000010"]
    read = load_checkpoint(tmp_path, identity="run")
    assert read is not None and read.step == 10


def test_a_seventh_digit_does_not_make_a_step_older(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        save_checkpoint(tmp_path, Checkpoint(step, {}, {}, torch.get_rng_state()), identity="run", keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-1000000"]


def test_the_same_step_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), identity="run", keep=2)
    other = checkpoint(1)
    other.weights["a.weight"].data.fill_(7)
    save_checkpoint(tmp_path, other, identity="run", keep=2)
    read = load_checkpoint(tmp_path, identity="run")
    assert read is not None and bool((read.weights["a.weight"] == 7).all())


def test_the_remains_of_a_killed_write_are_cleared(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), identity="run", keep=2)
    remains = tmp_path / "checkpoints" / ".writing-abc"
    remains.mkdir()
    (remains / "trained.safetensors").write_bytes(b"half")
    read = load_checkpoint(tmp_path, identity="run")
    assert read is not None and read.step == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def test_a_write_that_fails_leaves_the_last_checkpoint_and_no_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **more: Any) -> None:
        raise OSError("No space left on device")

    save_checkpoint(tmp_path, checkpoint(1), identity="run", keep=1)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, checkpoint(2), identity="run", keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b"") and None,
    "text": lambda path: path.write_text("hello") and None,
    "absent": lambda path: path.unlink(),
}


@pytest.mark.parametrize("file", ["state.pt", "trained.safetensors"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, file: str, damage: str) -> None:
    folder = save_checkpoint(tmp_path, checkpoint(1), identity="run", keep=2)
    DAMAGE[damage](folder / file)
    with pytest.raises(TrainingError, match="damaged") as refused:
        load_checkpoint(tmp_path, identity="run")
    assert refused.value.where == str(folder)
    assert str(folder) in str(refused.value.hint)


@pytest.mark.parametrize("state", [[1, 2], {"format": 1}, {}])
def test_a_state_of_another_shape_is_refused(tmp_path: Path, state: Any) -> None:
    folder = save_checkpoint(tmp_path, checkpoint(1), identity="run", keep=2)
    torch.save(state, folder / "state.pt")
    with pytest.raises(TrainingError):
        load_checkpoint(tmp_path, identity="run")


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, checkpoint(1), identity="run", keep=2)
    with pytest.raises(TrainingError, match="of another run") as refused:
        load_checkpoint(tmp_path, identity="another")
    assert refused.value.where == str(folder)


class Attack:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_strangers_pickle_runs_no_code(tmp_path: Path, zipped: bool) -> None:
    trap = tmp_path / "trap"
    pickle.loads(pickle.dumps(Attack(trap)))
    assert trap.exists(), "the attack itself does not work, so this test would prove nothing"
    trap.unlink()
    folder = tmp_path / "checkpoints" / "step-000001"
    folder.mkdir(parents=True)
    save_file({"a.weight": torch.zeros(2)}, folder / "trained.safetensors")
    state = {"format": 1, "identity": "run", "step": 1, "optimizer": Attack(trap), "random_state": torch.zeros(1)}
    torch.save(state, folder / "state.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(TrainingError):
        load_checkpoint(tmp_path, identity="run")
    assert not trap.exists()
