"""Where articles and packages lie: folders walked in a fixed order, one listing at a time, whatever their number.

A listing keeps only the names that are wanted, so a million pictures beside the articles cost no memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from llavamed_cli.records import Fault

XML_ENDINGS = (".xml", ".nxml")

OnFault = Callable[[Fault], None]


def walk(source: Path, endings: tuple[str, ...], on_fault: OnFault) -> Iterator[tuple[Path, list[str]]]:
    """Each folder that holds files with one of `endings`, and their names in order; a folder before those inside it.

    Hidden folders are passed over, and links that lead back to where the walk came from.

    Args:
        source: a folder, or one file, which is yielded whatever its ending.
        on_fault: is told of every folder that cannot be listed.
    """
    if source.is_file():
        yield source.parent, [source.name]
    else:
        yield from _walk(source, endings, on_fault, above=())


def _walk(
    folder: Path, endings: tuple[str, ...], on_fault: OnFault, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[Path, list[str]]]:
    try:
        status = folder.stat()
        files, folders = listing(folder, endings)
    except OSError as error:
        on_fault(Fault(where=str(folder), reason=f"the folder cannot be listed: {error.strerror or error}"))
        return
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    if files:
        yield folder, files
    for name in folders:
        yield from _walk(folder / name, endings, on_fault, (*above, here))


def listing(folder: Path, endings: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The names of a folder's files with one of `endings`, and of the folders in it that are not hidden, in order.

    Raises:
        OSError: the folder cannot be listed.
    """
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(endings) and entry.is_file():
                files.append(entry.name)
            elif not entry.name.startswith(".") and entry.is_dir():
                folders.append(entry.name)
    return sorted(files), sorted(folders)


def holds_xml(folder: Path) -> bool:
    """Whether XML lies directly in a folder; the first such name decides."""
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(XML_ENDINGS) for entry in entries)


def holds_articles(folder: Path) -> bool:
    """Whether a folder, or one directly in it, holds XML."""
    if holds_xml(folder):
        return True
    with os.scandir(folder) as entries:
        return any(entry.is_dir() and holds_xml(Path(entry)) for entry in entries)
