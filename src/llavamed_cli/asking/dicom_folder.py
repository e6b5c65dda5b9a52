"""A folder of DICOM files as one series of slices in space, of which one is shown.

Of the headers only what orders slices is read, and nothing of it is said but DICOM's code of the modality.
"""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llavamed_cli.errors import PictureError, UsageError
from llavamed_cli.model.images import DICOM_MAGIC, DICOM_PREAMBLE, read_picture
from llavamed_cli.model.picture import Picture, View, chosen_frame

READ = [
    *("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "Modality"),
    *("Rows", "NumberOfFrames"),
]
MAX_FILES = 20_000


@dataclass(frozen=True)
class _Slice:
    path: Path
    series: str
    place: tuple[float, float]
    """Along the series' axis, then by number; infinite where the header does not say."""


def read_dicom_folder(folder: Path, view: View) -> Picture:
    """The slice that `view.frame` counts to, or the middle one, of the series with the most slices.

    Slices are ordered along their own axis (PS3.3 C.7.6.2.1.1), those without a position by their number.

    Raises:
        PictureError: no DICOM picture is in the folder. UsageError: it has fewer slices.
    """
    series = _series(folder)
    slices = series[0]
    if len(slices) == 1:
        picture = read_picture(slices[0].path, view)
        notes = picture.facts.notes
        if len(series) > 1:
            notes = (f"{len(series)} series of one file each; that of {slices[0].path.name} is shown", *notes)
        return Picture(picture.image, replace(picture.facts, notes=notes))
    number = chosen_frame(view, len(slices), (len(slices) + 1) // 2, folder)
    picture = read_picture(slices[number - 1].path, replace(view, frame=None))
    kind = f"a {picture.facts.modality} series" if picture.facts.modality else "a series"
    among = f", the largest of {len(series)} in this folder" if len(series) > 1 else ""
    picks = "" if view.frame else "; --frame picks another"
    note = f"{kind} of {len(slices)} slices{among}: slice {number} is shown{picks}"
    facts = replace(picture.facts, frames=len(slices), frame=number, notes=(note, *picture.facts.notes))
    return Picture(picture.image, facts)


def _series(folder: Path) -> list[list[_Slice]]:
    """The slices of every series, in order; the largest series first."""
    found: defaultdict[str, list[_Slice]] = defaultdict(list)
    count = 0
    for path in _files(folder):
        count += 1
        if count > MAX_FILES:
            raise UsageError(f"more than {MAX_FILES:,} files", where=str(folder), hint="Name the folder of one series.")
        if (slice_ := _read(path)) is not None:
            found[slice_.series].append(slice_)
    if not found:
        raise PictureError(
            f"a folder of {count} file(s), none of them a DICOM picture",
            where=str(folder),
            hint="Name its pictures themselves.",
        )
    ordered = [sorted(slices, key=lambda one: (*one.place, one.path.as_posix())) for slices in found.values()]
    return sorted(ordered, key=lambda slices: (-len(slices), slices[0].path.as_posix()))


def _files(folder: Path) -> Any:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(names))


def _read(path: Path) -> _Slice | None:
    """A file's place in its series; None where it is no DICOM picture, or damaged."""
    import pydicom

    warnings.filterwarnings("ignore", module=r"pydicom\b")  # these quote odd values of the header
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            if stream.read(DICOM_PREAMBLE + len(DICOM_MAGIC))[DICOM_PREAMBLE:] != DICOM_MAGIC:
                return None
            stream.seek(0)
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=[*READ])
            if "Rows" not in header:
                return None
            return _Slice(path, str(header.get("SeriesInstanceUID", "")), _place(header))
    except Exception:  # a damaged header may raise anything; such a file is no slice
        return None


def _place(header: Any) -> tuple[float, float]:
    try:
        number = float(header.get("InstanceNumber"))
    except (TypeError, ValueError):
        number = float("inf")
    try:
        x1, y1, z1, x2, y2, z2 = (float(part) for part in header.ImageOrientationPatient)
        px, py, pz = (float(part) for part in header.ImagePositionPatient)
    except (AttributeError, TypeError, ValueError):
        return float("inf"), number
    normal = (y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2)
    return round(px * normal[0] + py * normal[1] + pz * normal[2], 4), number
