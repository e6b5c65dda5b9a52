"""A folder of DICOM: slices in their order in space, the largest series, and nothing of the patient."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy
import pydicom
import pytest
from pydicom.data import get_testdata_file

from llavamed_cli.asking.dicom_folder import read_dicom_folder
from llavamed_cli.errors import PictureError, UsageError
from llavamed_cli.model.picture import View

CT = get_testdata_file("CT_small.dcm", download=False)


def write_slice(path: Path, place: float | None, number: int, level: int, series: str = "1.2.3") -> None:
    """CT_small at another place of the axis, all of one grey level."""
    header = pydicom.dcmread(CT)
    header.SeriesInstanceUID, header.InstanceNumber = series, number
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    if place is None:
        del header.ImagePositionPatient
    else:
        header.ImagePositionPatient = [5, 5, place]
    header.WindowCenter, header.WindowWidth = 128, 256
    header.RescaleIntercept, header.RescaleSlope = 0, 1
    pixels = numpy.full((header.Rows, header.Columns), level, dtype=numpy.int16)
    header.PixelData = pixels.tobytes()
    path.parent.mkdir(exist_ok=True)
    header.save_as(path)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Four slices whose names and numbers run against their places, one of another series, and what is no picture."""
    for index, place in enumerate((30.0, -10.0, 10.0, -30.0)):
        write_slice(tmp_path / "one" / f"{index}.dcm", place, index, level=100 + int(place))
    write_slice(tmp_path / "two" / "0.dcm", 0.0, 1, level=5, series="9.9")
    (tmp_path / "notes.txt").write_text("nothing")
    shutil.copy(get_testdata_file("rtplan.dcm", download=False), tmp_path / "plan.dcm")
    return tmp_path


def test_slices_stand_in_the_order_of_space(study: Path) -> None:
    greys = [read_dicom_folder(study, View(frame=number)).image.getpixel((0, 0))[0] for number in (1, 2, 3, 4)]
    assert greys == sorted(greys) and len(set(greys)) == 4


def test_what_is_shown_is_said_and_the_middle_is(study: Path) -> None:
    picture = read_dicom_folder(study, View())
    assert (picture.facts.frame, picture.facts.frames, picture.facts.modality) == (2, 4, "CT")
    said = "a CT series of 4 slices, the largest of 2 in this folder: slice 2 is shown; --frame picks another"
    assert picture.facts.notes[0] == said
    assert "CompressedSamples" not in repr(picture.facts)
    assert "picks another" not in read_dicom_folder(study, View(frame=3)).facts.notes[0]


def test_without_places_numbers_order(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        write_slice(tmp_path / f"{9 - number}.dcm", None, number, level=50 * number)
    greys = [read_dicom_folder(tmp_path, View(frame=number)).image.getpixel((0, 0))[0] for number in (1, 2, 3)]
    assert greys == sorted(greys)


def test_a_series_of_one_file_keeps_its_own_frames(tmp_path: Path) -> None:
    shutil.copy(get_testdata_file("examples_ybr_color.dcm", download=False), tmp_path / "cine.dcm")
    assert read_dicom_folder(tmp_path, View(frame=30)).facts.frame == 30


def test_what_is_not_there_is_said(study: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the file has 4"):
        read_dicom_folder(study, View(frame=5))
    (tmp_path / "bare").mkdir()
    with pytest.raises(PictureError, match=r"0 file\(s\), none of them a DICOM picture"):
        read_dicom_folder(tmp_path / "bare", View())
