"""Articles in whatever wrapping: packages, XML files, folders of either or both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llavamed_cli.corpus.sources.jats import OnFault, read_jats
from llavamed_cli.corpus.sources.pmc_package import is_package, read_package
from llavamed_cli.records import Figure


def read_articles(source: Path, images: Path | None, scratch: Path, on_fault: OnFault) -> Iterator[Figure]:
    """Yield the figures of a package, an XML file, or all in a folder. scratch: where packages are unpacked."""
    if source.is_file() and is_package(source):
        yield from read_package(source, scratch, on_fault)
        return
    yield from read_jats(source, images, on_fault)
    if source.is_dir():
        for package in sorted(file for file in source.rglob("*") if file.is_file() and is_package(file)):
            yield from read_package(package, scratch, on_fault)
