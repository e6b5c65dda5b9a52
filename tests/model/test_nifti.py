"""A NIfTI volume shows its middle axial slice, front up, the patient's right on the left, however it is stored."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy
import pytest

from llavamed_cli.errors import PictureError, UsageError
from llavamed_cli.model.images import read_picture
from llavamed_cli.model.picture import View

nibabel = pytest.importorskip("nibabel", reason="the extra nifti is not installed")

RIGHT, LEFT, FRONT, BACK = 900, 300, 600, 100


def head() -> numpy.ndarray:
    """[right, front, up], 9 x 11 x 7 (x grows to the patient's right): marked at its sides, brighter upwards."""
    volume = numpy.zeros((9, 11, 7), dtype=numpy.int16)
    volume[8, 5], volume[0, 5], volume[4, 10], volume[4, 0] = RIGHT, LEFT, FRONT, BACK
    volume[4, 5] = numpy.arange(1, 8) * 10
    return volume


def store(path: Path, volume: numpy.ndarray, affine: numpy.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(volume, numpy.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_middle_slice_as_a_radiologist_sees_it(suffix: str, tmp_path: Path) -> None:
    picture = read_picture(store(tmp_path / f"a{suffix}", head()))
    grey = numpy.asarray(picture.image)[..., 0].astype(int)
    assert grey.shape == (11, 9)
    assert grey[5, 0] == 255, "the patient's right is on the left"
    assert abs(grey[5, 8] - 255 * LEFT / RIGHT) <= 1
    assert abs(grey[0, 4] - 255 * FRONT / RIGHT) <= 1, "the front is up"
    assert abs(grey[10, 4] - 255 * BACK / RIGHT) <= 1
    assert (picture.facts.format, picture.facts.frame, picture.facts.frames) == ("NIfTI", 4, 7)
    assert picture.facts.notes == (
        "frame 4 of 7 is shown; --frame picks another",
        "scaled by the slice's own range, 0 to 900; --window picks another",
    )


def test_how_the_volume_is_stored_makes_no_difference(tmp_path: Path) -> None:
    """All 48 orders and directions of the axes, for the second slice from below."""
    wanted = read_picture(store(tmp_path / "a.nii", head()), View(frame=2, window=(450, 900))).image.tobytes()
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            target = numpy.array(list(zip(axes, flips, strict=True)))
            canonical = numpy.array([[0, 1], [1, 1], [2, 1]])
            change = nibabel.orientations.ornt_transform(canonical, target)
            stored = nibabel.Nifti1Image(head(), numpy.eye(4)).as_reoriented(change)
            nibabel.save(stored, tmp_path / "b.nii")
            assert read_picture(tmp_path / "b.nii", View(frame=2, window=(450, 900))).image.tobytes() == wanted


def test_a_slice_and_a_window_are_picked(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nii", head())
    for frame in (1, 7):
        grey = numpy.asarray(read_picture(path, View(frame=frame, window=(50, 100))).image)[..., 0]
        assert abs(int(grey[5, 4]) - 25.5 * frame) <= 1
    with pytest.raises(UsageError, match="frame 8 was asked for; the file has 7"):
        read_picture(path, View(frame=8))


def test_scaled_and_float_values(tmp_path: Path) -> None:
    """What the header's slope makes of the stored values is what a window is about."""
    image = nibabel.Nifti1Image(head(), numpy.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nibabel.save(image, tmp_path / "a.nii")
    scaled = nibabel.load(tmp_path / "a.nii").get_fdata()
    picture = read_picture(tmp_path / "a.nii", View(window=(0, 2 * float(scaled.max()))))
    assert picture.image.getpixel((0, 5)) == (255,) * 3
    floats = numpy.where(numpy.arange(7) == 3, numpy.nan, head()).astype(numpy.float32)
    assert not numpy.asarray(read_picture(store(tmp_path / "b.nii", floats)).image).any()


def test_the_first_volume_of_a_series(tmp_path: Path) -> None:
    series = numpy.stack([head(), numpy.zeros_like(head())], axis=-1)
    picture = read_picture(store(tmp_path / "a.nii", series))
    assert picture.image.getpixel((0, 5)) == (255,) * 3
    assert picture.facts.notes[1] == "the first of 2 volumes is shown"


def test_what_is_refused(tmp_path: Path) -> None:
    colours = numpy.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for volume in (numpy.zeros((4, 4), dtype=numpy.int16), colours):
        with pytest.raises(PictureError, match="holds no grey volume"):
            read_picture(store(tmp_path / "a.nii", volume))
    whole = store(tmp_path / "b.nii", head()).read_bytes()
    packed = store(tmp_path / "b.nii.gz", head()).read_bytes()
    for name, content in {
        "cut.nii": whole[:700],
        "header.nii": whole[:100],
        "other.nii": b"<html>" * 99,
        "cut.nii.gz": packed[: len(packed) // 2],
        "other.nii.gz": b"\x1f\x8b no gzip",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PictureError, match="NIfTI file is damaged") as error:
            read_picture(tmp_path / name)
        assert error.value.where == str(tmp_path / name)


def test_without_nibabel_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(tmp_path / "a.nii", head())
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(PictureError, match="needs the package nibabel") as error:
        read_picture(path)
    assert error.value.hint == "pip install 'llavamed[nifti]'"
