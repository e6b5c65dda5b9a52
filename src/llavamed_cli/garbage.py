"""Garbage collection put off while there is none: torch and transformers make a million objects that stay.

Looking through them again and again costs a sixth of their import, and once more a second when the process ends
(`tests/benchmarks/ask_speed.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_put_off() -> Iterator[None]:
    """No cycles are looked for inside; also a decorator. What became garbage meanwhile is found afterwards."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def leave_garbage() -> None:
    """For a process that is about to end: nothing that lives now is looked through again."""
    gc.freeze()
