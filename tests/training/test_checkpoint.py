"""Checkpoints: what is written is read back bit for bit; what is torn, a stranger's or another run's is refused."""

from __future__ import annotations

import pickle
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from llavamed_cli.errors import TrainingError
from llavamed_cli.progress import Silent
from llavamed_cli.training.checkpoint import Checkpoint, load_best, load_checkpoint, save_best, save_checkpoint
from llavamed_cli.training.checkpoint_place import Place
from llavamed_cli.world import World


def checkpoint(step: int) -> Checkpoint:
    """What a run would leave after `step` steps of a model of one weight."""
    generator = torch.Generator().manual_seed(step)
    weight = torch.nn.Parameter(torch.randn(3, 4, generator=generator))
    optimizer = torch.optim.AdamW([weight])
    for _ in range(step):
        weight.grad = torch.randn(3, 4, generator=generator)
        optimizer.step()
    return Checkpoint(
        step=step,
        weights={"a.weight": weight},
        states={"optimizer": optimizer.state_dict()},
        random_state={"cpu": generator.get_state()},
        judged={"best_step": step, "best_loss": 0.1 * step},
    )


def only_weights(step: int, **weights: torch.Tensor) -> Checkpoint:
    return Checkpoint(step=step, weights=weights, states={}, random_state={"cpu": torch.get_rng_state()})


def run_in(out: Path, identity: str = "run") -> Place:
    return Place(out, identity)


def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    written = checkpoint(3)
    save_checkpoint(run_in(tmp_path), written, keep=2)
    read = load_checkpoint(run_in(tmp_path))
    assert read is not None
    assert read.step == 3
    assert torch.equal(read.weights["a.weight"], written.weights["a.weight"])
    assert torch.equal(read.random_state["cpu"], written.random_state["cpu"])
    assert read.judged == written.judged
    found, before = read.states["optimizer"], written.states["optimizer"]
    assert found["param_groups"] == before["param_groups"]
    moments, expected = found["state"][0], before["state"][0]
    assert moments.keys() == expected.keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert all(torch.equal(moments[name], expected[name]) for name in expected)


def test_weights_of_a_transposed_view_are_kept_too(tmp_path: Path) -> None:
    table = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(run_in(tmp_path), only_weights(1, t=table.T), keep=1)
    read = load_checkpoint(run_in(tmp_path))
    assert read is not None
    assert torch.equal(read.weights["t"], table.T)


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(run_in(tmp_path)) is None


def test_the_last_few_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (1, 2, 9, 10):
        save_checkpoint(run_in(tmp_path), checkpoint(step), keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000009", "step-000010"]
    read = load_checkpoint(run_in(tmp_path))
    assert read is not None and read.step == 10


def test_a_seventh_digit_does_not_make_a_step_older(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        save_checkpoint(run_in(tmp_path), only_weights(step), keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-1000000"]


def test_the_same_step_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    save_checkpoint(run_in(tmp_path), checkpoint(1), keep=2)
    other = checkpoint(1)
    other.weights["a.weight"].data.fill_(7)
    save_checkpoint(run_in(tmp_path), other, keep=2)
    read = load_checkpoint(run_in(tmp_path))
    assert read is not None and bool((read.weights["a.weight"] == 7).all())


def test_the_remains_of_a_killed_write_are_cleared(tmp_path: Path) -> None:
    save_checkpoint(run_in(tmp_path), checkpoint(1), keep=2)
    remains = tmp_path / "checkpoints" / ".writing-abc"
    remains.mkdir()
    (remains / "trained.safetensors").write_bytes(b"half")
    read = load_checkpoint(run_in(tmp_path))
    assert read is not None and read.step == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a disk that fills up: the system refuses to write the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("size", [40, 1000])
def test_a_full_disk_is_said_and_leaves_the_last_checkpoint_whole(tmp_path: Path, size: int) -> None:
    """At 40 bytes the weights do not fit, at 1000 the optimiser does not."""
    save_checkpoint(run_in(tmp_path), checkpoint(1), keep=1)
    with small_disk(size), pytest.raises(TrainingError, match="checkpoint of step-000002 cannot be written") as refused:
        save_checkpoint(run_in(tmp_path), checkpoint(2), keep=1)
    assert "step-000001 is whole" in str(refused.value.hint)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    read = load_checkpoint(run_in(tmp_path))
    assert read is not None and read.step == 1


def test_the_best_weights_take_the_place_of_those_before(tmp_path: Path) -> None:
    place = run_in(tmp_path)
    save_checkpoint(place, checkpoint(1), keep=1)
    for step in (2, 4):
        save_best(place, {"w": torch.full((2,), float(step))}, step=step, loss=1 / step)
    assert sorted(path.name for path in place.root.iterdir()) == ["best-000004", "step-000001"]
    step, weights = load_best(place)
    assert step == 4
    assert torch.equal(weights["w"], torch.tensor([4.0, 4.0]))
    save_checkpoint(place, checkpoint(5), keep=1)
    assert sorted(path.name for path in place.root.iterdir()) == ["best-000004", "step-000005"]


def test_best_weights_that_are_gone_are_said(tmp_path: Path) -> None:
    place = run_in(tmp_path)
    with pytest.raises(TrainingError, match="best weights cannot be read"):
        load_best(place)
    save_best(place, {"w": torch.zeros(2)}, step=1, loss=1.0)
    cut(place.root / "best-000001" / "trained.safetensors")
    with pytest.raises(TrainingError, match="best weights cannot be read"):
        load_best(place)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b"") and None,
    "text": lambda path: path.write_text("hello") and None,
    "absent": lambda path: path.unlink(),
}


FILES = ["state.pt", "optimizer.pt", "trained.safetensors"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_where_there_is_no_other(tmp_path: Path, file: str, damage: str) -> None:
    folder = save_checkpoint(run_in(tmp_path), checkpoint(1), keep=2)
    DAMAGE[damage](folder / file)
    with pytest.raises(TrainingError, match="damaged") as refused:
        load_checkpoint(run_in(tmp_path))
    assert refused.value.where == str(folder)
    assert str(folder) in str(refused.value.hint)
    assert folder.is_dir(), "nothing is thrown away unasked"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_the_one_before_a_damaged_one_is_taken_and_that_is_said(tmp_path: Path, file: str, damage: str) -> None:
    for step in (1, 2):
        folder = save_checkpoint(run_in(tmp_path), checkpoint(step), keep=2)
    DAMAGE[damage](folder / file)
    progress = Told()
    read = load_checkpoint(run_in(tmp_path), progress)
    assert read is not None and read.step == 1
    assert len(progress.notes) == 1
    assert f"{folder} is damaged" in progress.notes[0] and "damaged-step-000002" in progress.notes[0]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["damaged-step-000002", "step-000001"]
    save_checkpoint(run_in(tmp_path), checkpoint(2), keep=1)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["damaged-step-000002", "step-000002"]


class Told(Silent):
    """Progress that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.mark.parametrize("state", [[1, 2], {"format": 2}, {}])
def test_a_state_of_another_shape_is_refused(tmp_path: Path, state: Any) -> None:
    folder = save_checkpoint(run_in(tmp_path), checkpoint(1), keep=2)
    torch.save(state, folder / "state.pt")
    with pytest.raises(TrainingError):
        load_checkpoint(run_in(tmp_path))


def test_a_format_of_another_version_is_refused_not_put_aside(tmp_path: Path) -> None:
    folder = save_checkpoint(run_in(tmp_path), checkpoint(1), keep=2)
    torch.save({"format": 1, "identity": "run"}, folder / "state.pt")
    with pytest.raises(TrainingError, match="has format 1, and this version reads 2"):
        load_checkpoint(run_in(tmp_path))


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(run_in(tmp_path), checkpoint(1), keep=2)
    state = torch.load(folder / "state.pt", weights_only=True)
    torch.save({**state, "processes": 8}, folder / "state.pt")
    with pytest.raises(TrainingError, match=r"of 8 process\(es\), and now there are 1") as refused:
        load_checkpoint(run_in(tmp_path))
    assert "Start as many as before" in str(refused.value.hint)


def test_shards_are_not_read_as_whole_weights(tmp_path: Path) -> None:
    place = Place(tmp_path, "run", World(), sharded=True)
    folder = save_checkpoint(place, checkpoint(1), keep=2)
    assert {file.name for file in folder.iterdir()} == {
        "state.pt",
        "optimizer-00000.pt",
        "trained-00000.safetensors",
    }
    assert load_checkpoint(place) is not None
    with pytest.raises(TrainingError, match="holds weights in shards, and now each process holds them whole"):
        load_checkpoint(run_in(tmp_path))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(run_in(tmp_path), checkpoint(1), keep=2)
    with pytest.raises(TrainingError, match="of another run") as refused:
        load_checkpoint(run_in(tmp_path, "another"))
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
    state = {"format": 2, "identity": "run", "processes": 1, "sharded": False, "step": 1, "judged": Attack(trap)}
    torch.save(state, folder / "state.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(TrainingError):
        load_checkpoint(run_in(tmp_path))
    assert not trap.exists()
