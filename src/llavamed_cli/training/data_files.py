"""Where training data lies: what DATA on the command line names, as files of records and folders of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llavamed_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of samples, and the folder that its picture names are relative to."""

    path: Path
    images: Path

    def picture(self, name: str) -> Path:
        """A record's picture. Names may not leave the picture folder: data files come from strangers."""
        path = Path(name)
        if path.is_absolute() or ".." in path.parts:
            return self.images / "_outside_the_picture_folder_" / path.name
        return self.images / path


def find_data(places: Sequence[Path], stage_file: str, images: Path | None) -> list[DataFile]:
    """Resolve DATA arguments: a build-data folder (its `stage_file`), or a JSON or JSONL file.

    A file's pictures lie in `images` where given, else in `images/` beside it, else beside it.
    """
    found = []
    for place in places:
        if place.is_dir():
            if not (place / stage_file).is_file():
                raise UsageError(f"the folder has no {stage_file}", where=str(place), hint="Make one with build-data.")
            found.append(DataFile(path=place / stage_file, images=place / "images"))
            continue
        if not place.is_file():
            raise UsageError("no such data file or folder", where=str(place))
        beside = place.parent / "images"
        found.append(DataFile(path=place, images=images or (beside if beside.is_dir() else place.parent)))
    return found
