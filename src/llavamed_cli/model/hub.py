"""Where a model lies: a folder as it is, or `owner/name[@revision]` through the hub's own cache on this machine.

Everything after this works on a folder. A name that was fetched once is found again without a network.
"""

from __future__ import annotations

import re
from pathlib import Path

from llavamed_cli.errors import ModelError, first_line

HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?")
DESCRIBING = ("*.json", "*.jinja", "*.txt", "*.model")
READ = (*DESCRIBING, "*.safetensors")
"""What of a repository is fetched: configuration, vocabulary and safetensors; no code, no other framework's weights."""
PICKLED = "*.bin"
"""Fetched only where no safetensors lie; read as tensors alone."""
BELOW = "*/*"
"""Files in sub-folders are other forms of the same model, or checkpoints on the way to it."""


def hub_name(where: str) -> tuple[str, str | None] | None:
    """`owner/name` and the revision asked for, where `where` is written as one; a folder of that name goes first."""
    match = HUB_NAME.fullmatch(where)
    if match is None or Path(where).expanduser().exists():
        return None
    return match["name"], match["revision"]


def locate(where: str, *, weights: bool = True) -> Path:
    """The folder (or file) that `where` names, fetched from the hub where it is no local one; all but its weights where
    these are not asked for.

    A folder fetched is named by the commit it holds. Without a network, or with HF_HUB_OFFLINE=1, the cache answers.

    Raises:
        ModelError: no such folder, or the hub has or gives no such model; the message says which.
    """
    path = Path(where).expanduser()
    if where and path.exists():
        return path
    named = hub_name(where)
    if named is None:
        raise ModelError("no such model folder", where=where, hint="Give a folder, or a hub name: owner/name@revision.")
    folder = _fetch(where, *named, READ if weights else DESCRIBING)
    if weights and not any(folder.glob("*.safetensors")):
        folder = _fetch(where, *named, (*READ, PICKLED))
    return folder


def is_here(where: str) -> bool:
    """Whether a model can be had without a network: a folder, or a name that the hub's cache holds wholly."""
    named = hub_name(where)
    if named is None:
        return Path(where).expanduser().exists()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, revision = named
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=[*READ], ignore_patterns=[BELOW], local_files_only=True
        )
    except LocalEntryNotFoundError:
        return False
    return any(Path(folder).glob("*.safetensors")) or any(Path(folder).glob(PICKLED))


def cache_folder(name: str) -> Path:
    """Where the hub's cache on this machine keeps the model `owner/name`."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


def _fetch(where: str, name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), ignore_patterns=[BELOW], library_name="llavamed"
        )
    except GatedRepoError as error:
        hint = f"Accept its terms on the hub's page of {name}, then run `hf auth login`."
        raise ModelError("the hub gives this model only to those who accepted its terms", where=where, hint=hint) from (
            error
        )
    except RevisionNotFoundError as error:
        raise ModelError(f"the hub's {name} has no revision {revision!r}", where=where) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        hint = "Check the spelling; a private model needs `hf auth login`."
        raise ModelError("no such folder here, and no such model on the hub", where=where, hint=hint) from error
    except LocalEntryNotFoundError as error:
        hint = f"With a network, `hf download {name}` puts it into the cache; or name a local folder."
        raise ModelError(
            "no such folder here, not (wholly) in the hub's cache, and the hub cannot be reached",
            where=where,
            hint=hint,
        ) from error
    except Exception as error:  # a server or a disk that fails in a way of its own
        raise ModelError(f"the hub did not give this model: {first_line(error)}", where=where) from error
    return Path(folder)
