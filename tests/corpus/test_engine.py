from __future__ import annotations

import operator
import signal
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from llavamed_cli.corpus.engine import Engine, open_engine
from llavamed_cli.errors import LlavamedError, UsageError
from llavamed_cli.files import require_file

# Workers are new processes, which cannot import this module: the functions here are from elsewhere.


@pytest.mark.parametrize("workers", [1, 3])
def test_results_keep_their_order(workers: int) -> None:
    assert list(open_engine("local", workers).map(operator.neg, range(50))) == [-number for number in range(50)]


def test_a_fault_of_a_worker_keeps_its_words(tmp_path: Path) -> None:
    there, absent = tmp_path / "there.csv", tmp_path / "absent.csv"
    there.touch()
    results = open_engine("local", 2).map(partial(require_file, what="the table"), [there, there, absent, there])
    assert [next(results) for _ in range(2)] == [there, there]
    with pytest.raises(UsageError, match="the table does not exist") as raised:
        next(results)
    assert (raised.value.where, raised.value.hint) == (str(absent), "Check the path.")


def test_a_killed_worker_is_told_in_a_sentence() -> None:
    with pytest.raises(LlavamedError, match="a worker process was killed"):
        list(open_engine("local", 2).map(signal.raise_signal, [0, 0, signal.SIGKILL, 0]))


def test_the_source_is_read_only_a_little_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield number

    engine: Engine = open_engine("local", 2)
    results = engine.map(operator.neg, items())
    next(results)
    assert taken <= 8


def test_no_worker_is_refused() -> None:
    with pytest.raises(UsageError, match="--workers is 0"):
        open_engine("local", 0)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra")
def test_ray_gives_the_same_in_the_same_order() -> None:
    ray = open_engine("ray", 1)
    assert list(ray.map(operator.neg, range(600))) == [-number for number in range(600)]
    with pytest.raises(UsageError, match="does not exist"):
        list(ray.map(partial(require_file, what="table"), [Path("absent.csv")]))


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_ray_that_is_not_installed_is_named() -> None:
    with pytest.raises(UsageError, match="llavamed\\[ray\\]"):
        open_engine("ray", 1)
