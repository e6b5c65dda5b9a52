"""Which model answers: the one named, the person's default, or the published LLaVA-Med v1.5.

The published one is 15 GB. It is never fetched without a yes, and where it cannot be had three ways out are named, the
one that needs neither a network nor a download of that size first.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from llavamed_cli.errors import DataError, ModelError, UsageError
from llavamed_cli.files import read_toml, write_text
from llavamed_cli.model import hub
from llavamed_cli.progress import Progress

CONFIG_FILE = "config.toml"
PUBLISHED = "microsoft/llava-med-v1.5-mistral-7b"
PUBLISHED_BYTES = 15 * 10**9
"""Its shards in bfloat16, as its page on the hub lists them."""
GB, MB = 10**9, 10**6
WAYS_OUT = f"""Three ways to a model:
  1. examples/quickstart.sh makes a small one on this machine: then --model quickstart-output/tuned
  2. name a folder you have: --model DIR or LLAVAMED_MODEL=DIR, or for good: llavamed ask --set-default DIR
  3. with a network: hf download {PUBLISHED} (15 GB)"""


@dataclass(frozen=True)
class ChosenModel:
    """where: a folder or hub name. named: somebody chose it; it is not merely what is taken when nobody does."""

    where: str
    named: bool


def choose_model(named: str | None, config: Path) -> ChosenModel:
    """The model that was named, or the default in the folder `config`, or the published one.

    Raises:
        UsageError: an empty name, or a default that is gone. DataError: the configuration cannot be read.
    """
    if named is not None:
        if not named.strip():
            raise UsageError("the model's name is empty", where="--model or LLAVAMED_MODEL")
        return ChosenModel(named, named=True)
    default = _default(config / CONFIG_FILE)
    if default is None:
        return ChosenModel(PUBLISHED, named=False)
    if hub.hub_name(default) is None and not Path(default).exists():
        raise UsageError(
            f"the default model {default} is gone",
            where=str(config / CONFIG_FILE),
            hint="Choose another: llavamed ask --set-default DIR, or name one with --model.",
        )
    return ChosenModel(default, named=True)


def set_default(model: str, config: Path) -> Path:
    """Remember a model for when none is named; return the file that says so.

    Raises:
        ModelError: no LLaVA is there. UsageError: an empty name.
    """
    from llavamed_cli.model.published.read import NO_LLAVA, WITH_BASE, detect

    if not model.strip():
        raise UsageError("the model's name is empty", where="--set-default")
    where = model
    if hub.hub_name(model) is None:
        folder = Path(model).expanduser().resolve()
        layout = detect(folder)
        if layout in NO_LLAVA or layout in WITH_BASE:
            raise ModelError(f"expected a LLaVA, found {layout.value}", where=model, hint=NO_LLAVA.get(layout))
        where = str(folder)
    file = config / CONFIG_FILE
    try:
        write_text(file, f"# Written by llavamed ask --set-default.\nmodel = {_toml_string(where)}\n")
    except OSError as error:
        raise ModelError(f"the default cannot be kept: {error.strerror}", where=str(file)) from error
    return file


def make_ready(
    chosen: ChosenModel, *, yes: bool, confirm: Callable[[str], bool] | None, progress: Progress
) -> ChosenModel:
    """See that the model can be loaded; the published one is fetched, if it is not here and somebody says yes.

    Args:
        yes: said on the command line.
        confirm: asks a person; None where nobody is there.

    Raises:
        UsageError: nobody said yes. ModelError: it cannot be fetched. Both name three ways out.
    """
    if chosen.named or hub.is_here(chosen.where):
        return chosen
    place = hub.cache_folder(chosen.where)
    free = _free_bytes(place)
    progress.note(
        f"No model was named. The published {chosen.where} would be fetched: {PUBLISHED_BYTES / GB:.0f} GB, kept in "
        f"{place} ({free / GB:.0f} GB free there)."
    )
    if free < PUBLISHED_BYTES:
        raise ModelError(f"{place} has no room for {PUBLISHED_BYTES / GB:.0f} GB", hint=WAYS_OUT)
    if not yes and (confirm is None or not confirm(f"Fetch {PUBLISHED_BYTES / GB:.0f} GB now?")):
        said = "nobody is here to say that 15 GB may be fetched" if confirm is None else "it was not fetched"
        also = "\n  or let it be fetched: the same command with --yes" if confirm is None else ""
        raise UsageError(f"no model: none was named, and {said}", hint=WAYS_OUT + also)
    try:
        _fetch(chosen.where, place, progress)
    except ModelError as error:
        what = f"no model: none was named, and {chosen.where} cannot be fetched ({error.what})"
        raise ModelError(what, hint=WAYS_OUT) from error
    return chosen


def _default(file: Path) -> str | None:
    if not file.is_file():
        return None
    found = read_toml(file, "configuration").get("model")
    if found is not None and not (isinstance(found, str) and found.strip()):
        raise DataError("model is not a folder's or a hub model's name", where=str(file))
    return found


def _toml_string(text: str) -> str:
    """A basic string of TOML, which JSON's strings are too."""
    import json

    return json.dumps(text)


def _free_bytes(place: Path) -> int:
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    return shutil.disk_usage(there).free


def _fetch(name: str, place: Path, progress: Progress) -> None:
    """Fetch through the hub's cache, which goes on where it was cut off; the bar counts what lies on the disk."""
    done, begun = Event(), _size(place) // MB

    def watch() -> None:
        seen = begun
        with progress.bar("MB", PUBLISHED_BYTES // MB, done=begun) as bar:
            while not done.wait(1.0):
                now = max(seen, _size(place) // MB)
                bar.advance(now - seen)
                seen = now

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        hub.locate(name)
    finally:
        done.set()
        watcher.join()


def _size(place: Path) -> int:
    total = 0
    for file in place.glob("blobs/*"):
        try:
            total += file.stat().st_size
        except OSError:  # renamed when it was whole
            continue
    return total
