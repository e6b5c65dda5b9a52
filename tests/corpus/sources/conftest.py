"""A local PubMed Central, for the tests of what reads it."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llavamed_cli.corpus.sources.pmc_cloud import PmcCloud
from llavamed_cli.corpus.sources.polite_http import Patience

SERVER = Path(__file__).with_name("pmc_server.py")


@pytest.fixture(scope="session")
def pmc_server() -> ModuleType:
    """The module pmc_server.py."""
    spec = importlib.util.spec_from_file_location("pmc_server", SERVER)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["pmc_server"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pmc(pmc_server: ModuleType) -> Iterator[Any]:
    """A PmcServer that holds nothing yet."""
    with pmc_server.PmcServer() as server:
        yield server


@pytest.fixture
def fault(pmc_server: ModuleType) -> Any:
    """The class ServedFault."""
    return pmc_server.ServedFault


@pytest.fixture
def patience() -> Patience:
    """Enough for what the tests let go wrong, in a hurry."""
    return Patience(tries=4, first_wait=0.01, longest_wait=0.02, timeout=5)


@pytest.fixture
def open_cloud(pmc: Any, tmp_path: Path, patience: Patience) -> Iterator[Callable[..., PmcCloud]]:
    """Open a client of that server, its cache in tmp_path/cache: `open_cloud(concurrency=4)`."""
    opened: list[PmcCloud] = []

    def open_(**options: Any) -> PmcCloud:
        given = {"url": pmc.url, "cache": tmp_path / "cache", "concurrency": 4, "patience": patience} | options
        opened.append(PmcCloud(**given, jitter=random.Random(1)))
        return opened[-1]

    yield open_
    for cloud in opened:
        cloud.__exit__()
