"""Where a tower that a config names is looked for: beside the checkpoint, here, and in the hub's cache."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from llavamed_cli.errors import ModelError
from llavamed_cli.model import hub
from llavamed_cli.model.published.named_tower import fetched_tower, named_tower


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    made = tmp_path / "models" / "llava"
    made.mkdir(parents=True)
    return made


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nothing(*names: object, **options: object) -> str:
        assert options["local_files_only"] is True
        raise LocalEntryNotFoundError("not there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("place", ["models/clip", "clip"])
def test_relative_to_the_checkpoint_or_to_here(checkpoint: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir()
    found = named_tower("clip", checkpoint)
    assert found is not None and found.resolve() == tmp_path / place


def test_an_absolute_path(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    assert named_tower(str(tmp_path / "far"), checkpoint) == tmp_path / "far"


def test_the_cache_without_a_network(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, *, local_files_only: str(tmp_path / name))
    assert named_tower("openai/clip", checkpoint) == tmp_path / "openai" / "clip"


@pytest.mark.parametrize("name", ["openai/clip", "/mnt/their/machine/clip", "../clip"])
def test_nowhere(checkpoint: Path, name: str) -> None:
    assert named_tower(name, checkpoint) is None


def test_fetched_only_when_it_is_not_here(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(name: str) -> Path:
        asked.append(name)
        return tmp_path / "fetched"

    monkeypatch.setattr(hub, "locate", fetch)
    assert fetched_tower("openai/clip", checkpoint) == tmp_path / "fetched"
    (tmp_path / "clip").mkdir()
    assert fetched_tower("clip", checkpoint).resolve() == tmp_path / "clip"
    assert asked == ["openai/clip"]


def test_a_path_on_another_machine_says_what_to_do(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="/mnt/their/clip, cannot be had") as caught:
        fetched_tower("/mnt/their/clip", checkpoint)
    assert "--vision-tower FOLDER" in str(caught.value)
