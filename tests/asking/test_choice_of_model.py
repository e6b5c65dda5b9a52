"""Which model answers, and what is said where none can."""

from __future__ import annotations

from pathlib import Path

import pytest

from llavamed_cli.asking import choice_of_model
from llavamed_cli.asking.choice_of_model import PUBLISHED, ChosenModel, choose_model, make_ready, set_default
from llavamed_cli.errors import DataError, ModelError, UsageError
from llavamed_cli.model import hub
from llavamed_cli.progress import Silent

NOBODYS = ChosenModel(PUBLISHED, named=False)


class Noted(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache is empty, and the disk has room."""
    monkeypatch.setattr(hub, "is_here", lambda where: False)
    monkeypatch.setattr(hub, "cache_folder", lambda name: tmp_path / "hub" / name)
    monkeypatch.setattr(choice_of_model, "_free_bytes", lambda place: 10**12)
    return tmp_path / "hub"


def test_named_then_default_then_published(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_model("tuned", tmp_path) == ChosenModel("tuned", named=True)
    assert choose_model(None, tmp_path) == NOBODYS
    monkeypatch.chdir(tiny_model.parent)
    file = set_default(tiny_model.name, tmp_path)
    assert choose_model(None, tmp_path) == ChosenModel(str(tiny_model), named=True), "whatever folder one stands in"
    file.write_text('model = "/gone/away"')
    with pytest.raises(UsageError, match="/gone/away is gone"):
        choose_model(None, tmp_path)
    file.write_text("model = 3")
    with pytest.raises(DataError):
        choose_model(None, tmp_path)
    set_default("owner/name", tmp_path)
    assert choose_model(None, tmp_path).where == "owner/name"


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_name_is_refused(empty: str, tmp_path: Path) -> None:
    for choose in (choose_model, set_default):
        with pytest.raises(UsageError, match="empty"):
            choose(empty, tmp_path)


def test_a_default_must_be_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        set_default(str(tmp_path), tmp_path / "config")
    assert not (tmp_path / "config").exists()


def test_a_named_model_and_one_that_is_here_are_taken_without_a_word(no_cache: Path) -> None:
    noted = Noted()
    named = ChosenModel("owner/name", named=True)
    assert make_ready(named, yes=False, confirm=None, progress=noted) == named
    assert not noted.notes


def test_nothing_is_fetched_without_a_yes(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "locate", lambda where: pytest.fail("fetched"))
    noted = Noted()
    with pytest.raises(UsageError) as nobody:
        make_ready(NOBODYS, yes=False, confirm=None, progress=noted)
    assert "15 GB" in noted.notes[0] and str(no_cache) in noted.notes[0]
    ways = str(nobody.value)
    assert 0 < ways.index("examples/quickstart.sh") < ways.index("--set-default") < ways.index("hf download")
    assert "--yes" in ways
    with pytest.raises(UsageError, match="it was not fetched"):
        make_ready(NOBODYS, yes=False, confirm=lambda text: False, progress=noted)


def test_a_yes_fetches(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(hub, "locate", lambda where: fetched.append(where))
    assert make_ready(NOBODYS, yes=True, confirm=None, progress=Silent()) == NOBODYS
    assert make_ready(NOBODYS, yes=False, confirm=lambda text: True, progress=Silent()) == NOBODYS
    assert fetched == [PUBLISHED, PUBLISHED]


def test_without_a_network_three_ways_are_named(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(where: str) -> None:
        raise ModelError("the hub cannot be reached", where=where)

    monkeypatch.setattr(hub, "locate", fail)
    with pytest.raises(ModelError) as caught:
        make_ready(NOBODYS, yes=True, confirm=None, progress=Silent())
    assert "the hub cannot be reached" in str(caught.value) and "  1. examples/quickstart.sh" in str(caught.value)


def test_a_full_disk_is_said_before(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_of_model, "_free_bytes", lambda place: 10**9)
    with pytest.raises(ModelError, match="no room for 15 GB"):
        make_ready(NOBODYS, yes=True, confirm=None, progress=Silent())
