"""The vision tower that a LLaVA's config names: a hub name, or a path on the machine that it was trained on."""

from __future__ import annotations

from pathlib import Path

from llavamed_cli.errors import ModelError
from llavamed_cli.model import hub


def named_tower(name: str, checkpoint: Path) -> Path | None:
    """The folder of that name, if it is on this machine: no network is used.

    A relative path may start from the folder that holds the checkpoint's, or from the working directory; a hub name is
    looked up in the cache.
    """
    for folder in (checkpoint.resolve().parent / name, Path(name).expanduser()):
        if folder.is_dir():
            return folder
    return _cached(name)


def fetched_tower(name: str, checkpoint: Path) -> Path:
    """The same, fetched from the hub where it is not on this machine.

    Raises:
        ModelError: it is neither here nor there.
    """
    here = named_tower(name, checkpoint)
    if here is not None:
        return here
    try:
        return hub.locate(name)
    except ModelError as error:
        raise ModelError(
            f"the vision tower that config.json names, {name}, cannot be had: {error.what}",
            where=str(checkpoint),
            hint="Fetch it where there is a network, and name its folder with --vision-tower FOLDER.",
        ) from error


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if hub.hub_name(name) is None:
        return None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
