"""Who does the work of screening: this process, several, or a Ray cluster; the results are the same, in one order.

A batch of a source goes out, its outcomes come back. The look-ahead is bounded: memory does not grow with the source.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from llavamed_cli.corpus.build_options import EngineName
from llavamed_cli.errors import LlavamedError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCHES_AHEAD = 3
"""A worker: enough that none waits for its next batch while the first of the window is slow."""
RAY_BLOCK = 256
"""Batches given to Ray at a time."""


class Engine(Protocol):
    """Applies a picklable function to picklable items."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for every item, in order."""
        ...


def open_engine(name: EngineName, workers: int) -> Engine:
    """The engine of that name.

    Raises:
        UsageError: fewer than one worker, or Ray is not installed.
    """
    if workers < 1:
        raise UsageError(f"--workers is {workers}; at least one process is needed")
    if name == "ray":
        return RayEngine(_ray())
    return InProcess() if workers == 1 else Processes(workers)


class InProcess:
    """No worker but this process."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """See Engine."""
        return map(function, items)


class Processes:
    """Several processes of this machine, started afresh, so that none inherits an open file or a thread's lock."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """See Engine.

        Raises:
            LlavamedError: a worker was killed, most often because memory ran out.
        """
        waiting: deque[Future[Result]] = deque()
        with ProcessPoolExecutor(self._workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) >= BATCHES_AHEAD * self._workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BrokenProcessPool as error:
                raise LlavamedError(
                    "a worker process was killed; the system may have run out of memory",
                    hint="Repeat the command with fewer --workers; it goes on where it was.",
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


class RayEngine:
    """Ray Data, on this machine or on the cluster that RAY_ADDRESS names; --out must lie where all nodes see it."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """See Engine."""
        self._start()
        stream = iter(items)
        while block := list(islice(stream, RAY_BLOCK)):
            dataset = self._ray.data.from_items([{"item": item} for item in block])
            for row in dataset.map(partial(_row, function)).iter_rows():
                if row["fault"] is not None:
                    raise row["fault"]
                yield row["result"]

    def _start(self) -> None:
        if not self._ray.is_initialized():
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        context = self._ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False


def _row(function: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    """A result as a row of Ray Data. Our own faults travel in it: Ray would wrap them in its own."""
    try:
        return {"result": function(row["item"]), "fault": None}
    except LlavamedError as fault:
        return {"result": None, "fault": fault}


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(
            "--engine ray needs Ray Data, which is not installed", hint="pip install 'llavamed[ray]'"
        ) from error
    return ray
