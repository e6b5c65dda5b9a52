"""The notice that a picture, or what was said of it, leaves this machine: once a server, and in scripts never without
--yes.

A server on this machine needs none. That a host was named, or accepted by --yes, is remembered in the user's
configuration folder; where that cannot be written, the notice comes each time.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from llavamed_cli.config_folder import config_folder
from llavamed_cli.errors import UsageError
from llavamed_cli.progress import Progress

Leaving = Literal["pictures", "descriptions"]
FILES: dict[Leaving, str] = {"pictures": "picture-hosts.txt", "descriptions": "description-hosts.txt"}
NAMED: dict[Leaving, str] = {"pictures": "pictures", "descriptions": "descriptions of pictures"}
SENT: dict[Leaving, str] = {
    "pictures": "their pixels alone, without file names or headers",
    "descriptions": "with the questions and the key in OPENAI_API_KEY, without the pictures",
}


def remembered_hosts(what: Leaving = "pictures") -> Path:
    """The file of hosts, in the configuration folder."""
    return config_folder() / FILES[what]


def say_leaving(
    told_host: str,
    progress: Progress,
    *,
    yes: bool,
    interactive: bool,
    remembered: Path,
    what: Leaving = "pictures",
) -> None:
    """Say, before the first picture is sent to a server, that pictures leave this machine.

    Args:
        told_host: `Endpoint.told`, the server's name with or without a port.
        yes: the person accepted it on the command line.
        interactive: a person reads the notice.
        remembered: see `remembered_hosts`.
        what: what is sent.

    Raises:
        UsageError: nobody reads the notice, and nobody has accepted it for this host.
    """
    host = _name(told_host)
    if _is_here(host) or host in _read(remembered):
        return
    if not (yes or interactive):
        raise UsageError(
            f"{NAMED[what]} would leave this machine, for {host}, and nobody is here to be told",
            hint=f"If these {NAMED[what]} may be sent there, say so once with --yes.",
        )
    progress.note(
        f"{NAMED[what].capitalize()} leave this machine: they are sent to {host}, {SENT[what]}. "
        "This is said once a server."
    )
    _remember(host, remembered)


def _name(told_host: str) -> str:
    """The host without its port, in lower case: "[::1]:8000" and "::1" are "::1"."""
    if told_host.startswith("["):
        return told_host[1:].partition("]")[0].lower()
    name, colon, port = told_host.rpartition(":")
    return (name if colon and port.isdecimal() and ":" not in name else told_host).lower()


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(file: Path) -> frozenset[str]:
    try:
        return frozenset(file.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        return frozenset()


def _remember(host: str, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(f"{host}\n")
    except OSError:
        return
