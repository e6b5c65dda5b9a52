from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest

from llavamed_cli.garbage import collection_put_off


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_a_cycle_made_inside_is_collected_afterwards() -> None:
    with collection_put_off():
        assert not gc.isenabled()
        seen = weakref.ref(Cycle())
        list(map(list, [()] * 100_000))
        assert seen() is not None
    assert gc.isenabled()
    gc.collect()
    assert seen() is None


def test_collection_goes_on_after_a_fault_and_stays_off_where_it_was() -> None:
    with pytest.raises(ValueError), collection_put_off():
        raise ValueError
    assert gc.isenabled()
    gc.disable()
    try:
        with collection_put_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_command_that_leaves_its_garbage_still_says_all_and_ends_well() -> None:
    done = subprocess.run([sys.executable, "-m", "llavamed_cli", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("llavamed ")
