from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from llavamed_cli.endpoint.in_order import map_in_order


def test_results_come_in_the_order_of_the_items_whatever_finishes_first() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 * (number % 3 == 0))
        return number * number

    assert list(map_in_order(slow_first, range(40), threads=8)) == [number * number for number in range(40)]


def test_that_many_run_at_once_and_no_more() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    list(map_in_order(work, range(30), threads=5))
    assert most == 5


def test_no_more_items_are_taken_than_the_window() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = map_in_order(lambda number: number, items(), threads=2, window=6)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert taken <= 3 + 6


def test_an_error_comes_at_its_place_and_ends_the_work() -> None:
    begun: list[int] = []

    def fail_at_three(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    results = map_in_order(fail_at_three, range(100), threads=2, window=4)
    got = []
    with pytest.raises(ValueError, match="three"):
        for result in results:
            got.append(result)
    assert got == [0, 1, 2]
    assert max(begun) < 12
