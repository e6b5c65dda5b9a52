"""A function over a stream in several threads, the results in the stream's order; for work that waits on a network.

The look-ahead is bounded, so a stream of any length takes the memory of a window. Order costs a little: while the first
of the window is slow, at most a window of others is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

WINDOW_PER_THREAD = 4


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, window: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for every item, in order, `threads` at a time.

    Args:
        window: how many items may be begun before the first result is taken; WINDOW_PER_THREAD a thread if None.

    An exception of `function` is raised when its place is reached; what has not begun then is never begun. `items` is
    read in the caller's thread.
    """
    waiting: deque[Future[Result]] = deque()
    window = window or WINDOW_PER_THREAD * threads
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= window:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
