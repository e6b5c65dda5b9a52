"""Pictures leave this machine only where somebody was told, or said yes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llavamed_cli.endpoint.leaving import remembered_hosts, say_leaving
from llavamed_cli.errors import UsageError
from llavamed_cli.progress import Silent


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def say(host: str, remembered: Path, *, yes: bool = False, interactive: bool = False) -> list[str]:
    notes = Notes()
    say_leaving(host, notes, yes=yes, interactive=interactive, remembered=remembered)
    return notes.said


@pytest.mark.parametrize("accepted", ["yes", "interactive"])
def test_it_is_said_once_a_host(tmp_path: Path, accepted: str) -> None:
    file = tmp_path / "new" / "hosts.txt"
    (said,) = say("api.example.org", file, **{accepted: True})
    assert "leave this machine" in said and "api.example.org" in said
    assert say("API.example.org:443", file) == []
    assert len(say("other.example.org", file, interactive=True)) == 1


def test_a_script_is_refused_with_the_cure_and_nothing_is_remembered(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match=r"api\.example\.org") as caught:
            say("api.example.org", tmp_path / "hosts.txt")
        assert "--yes" in str(caught.value)
    assert not (tmp_path / "hosts.txt").exists()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "::1", "box.localhost"])
@pytest.mark.parametrize("port", ["", ":8000"])
def test_a_server_on_this_machine_needs_no_notice(tmp_path: Path, host: str, port: str) -> None:
    if host == "::1" and port:
        host = "[::1]"
    assert say(host + port, tmp_path / "hosts.txt") == []


@pytest.mark.parametrize("host", ["localhost.example.org", "10.0.0.1", "192.168.0.7:8000", "notlocalhost"])
def test_a_neighbour_is_not_this_machine(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError):
        say(host, tmp_path / "hosts.txt")


def test_a_folder_that_cannot_be_written_means_it_is_said_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert len(say("api.example.org", tmp_path / "file" / "hosts.txt", interactive=True)) == 1


def test_hosts_are_kept_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAVAMED_CONFIG", str(tmp_path))
    assert remembered_hosts().parent == tmp_path
