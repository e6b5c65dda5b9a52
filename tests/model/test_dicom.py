"""A DICOM file is shown as a viewer would first show it; nothing of its header comes out but the modality's code."""

from __future__ import annotations

import csv
import random
import struct
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_voi_lut, pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from llavamed_cli.errors import LlavamedError, PictureError, UsageError
from llavamed_cli.model import dicom_decode
from llavamed_cli.model.dicom_decode import jpeg_size
from llavamed_cli.model.images import read_picture
from llavamed_cli.model.picture import Picture, View

RAMP = numpy.arange(256, dtype=numpy.uint8).reshape(16, 16)
DEEP = RAMP.astype(numpy.uint16) * 16


def pixels_of(path: Path, view: View | None = None) -> numpy.ndarray:
    picture = read_picture(path, view or View())
    assert picture.image.mode == "RGB"
    return numpy.asarray(picture.image)


def grey_of(path: Path, view: View | None = None) -> numpy.ndarray:
    """The one channel of a grey picture."""
    pixels = pixels_of(path, view)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def refused(path: Path) -> str:
    with pytest.raises(PictureError) as error:
        read_picture(path)
    assert error.value.where == str(path)
    return error.value.what


def example(name: str) -> Path:
    """A file that pydicom brings along."""
    return Path(get_testdata_file(name, download=False))


def again(source: Path, path: Path, **tags: Any) -> Path:
    """A copy of a file with other values; those of two possible types are signed."""
    data = pydicom.dcmread(source)
    for name, value in tags.items():
        if name.startswith("PixelPadding"):
            data.add_new(name, "SS", value)
        else:
            setattr(data, name, value)
    data.save_as(path)
    return path


def dicom(path: Path, pixels: numpy.ndarray, **tags: Any) -> Path:
    """A small secondary capture of `pixels` [rows, columns] or [rows, columns, 3]."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName = "SECRET^NAME"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsAllocated - 1
    data.PixelRepresentation = 0
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def test_dicom_grey_and_its_inverse(tmp_path: Path) -> None:
    deep = RAMP.astype(numpy.uint16) * 16
    assert (grey_of(dicom(tmp_path / "a.dcm", deep)) == RAMP).all()
    assert (grey_of(dicom(tmp_path / "b.dcm", deep, PhotometricInterpretation="MONOCHROME1")) == 255 - RAMP).all()


def test_a_dicom_is_known_by_its_content(tmp_path: Path) -> None:
    assert (grey_of(dicom(tmp_path / "scan", RAMP)) == RAMP).all()


def test_a_dicom_window_cuts_off_what_lies_outside(tmp_path: Path) -> None:
    """PS3.3 C.11.2.1.2: centre 128, width 101 shows 78 to 178; rescaled by slope 2 the stored 39 to 89."""
    window = {"WindowCenter": 128, "WindowWidth": 101, "RescaleSlope": 2, "RescaleIntercept": 0}
    grey = grey_of(dicom(tmp_path / "a.dcm", RAMP, **window)).ravel()
    assert (grey[:39] == 0).all()
    assert (grey[90:] == 255).all()
    assert (numpy.diff(grey[39:89].astype(int)) > 0).all()


def test_dicom_colour(tmp_path: Path) -> None:
    colours = numpy.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=numpy.uint8)
    assert (pixels_of(dicom(tmp_path / "a.dcm", colours)) == colours).all()


def test_a_dicom_palette_is_looked_up(tmp_path: Path) -> None:
    tables = {
        f"{colour}PaletteColorLookupTableData": struct.pack("<256H", *[value << 8 for value in column])
        for colour, column in {
            "Red": range(256),
            "Green": range(255, -1, -1),
            "Blue": [7] * 256,
        }.items()
    }
    shapes = {f"{colour}PaletteColorLookupTableDescriptor": [256, 0, 16] for colour in ("Red", "Green", "Blue")}
    path = dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="PALETTE COLOR", **shapes, **tables)
    seen = pixels_of(path)
    assert (seen[..., 0] == RAMP).all()
    assert (seen[..., 1] == 255 - RAMP).all()
    assert (seen[..., 2] == 7).all()


@pytest.mark.parametrize(
    "broken",
    [
        {"PixelData": b"\0" * 10},
        {"Rows": 60_000, "Columns": 60_000},
        {"SamplesPerPixel": 9},
        {"BitsAllocated": 12},
    ],
    ids=str,
)
def test_a_broken_dicom_is_refused_without_its_header(broken: dict[str, Any], tmp_path: Path) -> None:
    message = refused(dicom(tmp_path / "a.dcm", RAMP, **broken))
    assert "SECRET" not in message


def test_a_wrong_header_value_is_not_quoted(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    data.add_new("NumberOfFrames", "LO", "SECRET^NAME")
    data.save_as(path)
    assert "SECRET" not in refused(path)


# ---- windows


def test_a_header_window_is_the_standards_formula(tmp_path: Path) -> None:
    """Against pydicom's own windowing, for each VOI LUT Function; the picture is not stretched after it."""
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        path = dicom(tmp_path / "a.dcm", DEEP, VOILUTFunction=function, **window)
        shown = apply_voi_lut(DEEP, pydicom.dcmread(path)) / 65535 * 255
        assert numpy.abs(grey_of(path) - shown).max() <= 0.51, function
        facts = read_picture(path).facts
        assert (facts.window, facts.notes) == ((2000, 1000), ())


def test_a_window_wider_than_the_values_leaves_them_grey(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP.astype(numpy.uint16) + 1000, WindowCenter=1128, WindowWidth=1024)
    grey = grey_of(path)
    assert grey.min() > 90 and grey.max() < 165


def test_the_first_of_several_windows_is_applied_and_that_is_said(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", DEEP, WindowCenter=[2000, 500], WindowWidth=[1000, 300])
    facts = read_picture(path).facts
    assert facts.window == (2000, 1000)
    assert facts.notes == ("the first of 2 windows in the header is applied; --window picks another",)


def test_a_window_asked_for_goes_before_the_headers(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", DEEP, WindowCenter=2000, WindowWidth=1000)
    asked = dicom(tmp_path / "b.dcm", DEEP, WindowCenter=700, WindowWidth=300)
    assert (grey_of(path, View(window=(700, 300))) == grey_of(asked)).all()
    assert read_picture(path, View(window=(700, 300))).facts.window == (700, 300)


def test_hounsfield_units_of_a_ct() -> None:
    """The bone of CT_small is white in a bone window, its air black, both by the rescaled values."""
    units = pixel_array(example("CT_small.dcm")).astype(int) - 1024
    grey = grey_of(example("CT_small.dcm"), View(window=(40, 400)))
    assert (grey[units >= 240] == 255).all()
    assert (grey[units <= -160] == 0).all()
    middle = (units > -100) & (units < 200)
    assert numpy.abs(grey[middle] - (units[middle] + 160) / 400 * 255).max() < 1.5


def test_without_a_window_deep_values_are_scaled_and_that_is_said(tmp_path: Path) -> None:
    notes = read_picture(dicom(tmp_path / "a.dcm", DEEP + 5)).facts.notes
    assert notes == ("the header names no window: scaled by its own range, 5 to 4085; --window picks another",)


def test_up_to_8_bits_without_a_window_are_as_they_are(tmp_path: Path) -> None:
    half = (RAMP // 2).astype(numpy.uint8)
    assert (grey_of(dicom(tmp_path / "a.dcm", half)) == half).all()
    mask = dicom(tmp_path / "b.dcm", half, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\xff\0" * 16)
    assert (grey_of(mask) == numpy.tile([255] * 8 + [0] * 8, (16, 1))).all()


def test_a_window_that_shows_nothing_is_left(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", DEEP, WindowCenter=60_000, WindowWidth=10)
    assert (grey_of(path) == RAMP).all()
    assert read_picture(path).facts.notes[0].startswith("the header's window shows nothing of it: scaled")
    assert (grey_of(dicom(tmp_path / "b.dcm", DEEP, WindowCenter=0, WindowWidth=0)) == RAMP).all()


def look_up_table(entries: list[int], bits: int) -> Dataset:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [len(entries), 0, bits])
    table.add_new("LUTData", "OW", struct.pack(f"<{len(entries)}H", *entries))
    return table


def test_tables_of_modality_and_voi(tmp_path: Path) -> None:
    """A VOI table goes before a window; beyond its ends the last entry holds."""
    falling = look_up_table([255 - value for value in range(200)], 8)
    path = dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=[falling], WindowCenter=9, WindowWidth=2)
    assert (grey_of(path) == 255 - numpy.minimum(RAMP, 199)).all()
    doubling = look_up_table([2 * value for value in range(256)], 16)
    path = dicom(tmp_path / "b.dcm", RAMP, ModalityLUTSequence=[doubling], WindowCenter=256, WindowWidth=513)
    assert numpy.abs(grey_of(path).astype(int) - RAMP).max() <= 1


def test_padding_is_black_and_stretches_nothing(tmp_path: Path) -> None:
    signed = DEEP.astype(numpy.int16)
    signed[0, :4] = -2000
    tags = {"PixelRepresentation": 1, "RescaleSlope": 1, "RescaleIntercept": -1024}
    plain = grey_of(dicom(tmp_path / "a.dcm", signed, **tags))
    assert plain[15].min() > 200 and plain[0, 5:].min() > 70, "padding that is not named pulls the range down"
    for meaning, turned in (("MONOCHROME2", False), ("MONOCHROME1", True)):
        path = dicom(tmp_path / "b.dcm", signed, PhotometricInterpretation=meaning, **tags)
        grey = grey_of(again(path, tmp_path / "c.dcm", PixelPaddingValue=-2000))
        inside = (RAMP.ravel()[4:] - 4) / 251 * 255
        assert (grey[0, :4] == 0).all()
        assert numpy.abs(grey.ravel()[4:] - (255 - inside if turned else inside)).max() <= 0.51
    ranged = again(path, tmp_path / "d.dcm", PixelPaddingValue=-2000, PixelPaddingRangeLimit=16 * 99)
    assert (grey_of(ranged).ravel()[:100] == 0).all()


# ---- frames


def stack(path: Path, frames: int, **tags: Any) -> Path:
    """Frame N is all N."""
    pixels = numpy.repeat(numpy.arange(1, frames + 1, dtype=numpy.uint8), 256)
    return dicom(path, RAMP, NumberOfFrames=frames, PixelData=pixels.tobytes(), **tags)


def test_the_middle_frame_is_shown_and_that_is_said(tmp_path: Path) -> None:
    for frames, middle in ((2, 1), (5, 3), (10, 5)):
        picture = read_picture(stack(tmp_path / "a.dcm", frames))
        assert picture.image.getpixel((3, 3)) == (middle,) * 3
        assert picture.facts.notes == (f"frame {middle} of {frames} is shown; --frame picks another",)
    assert grey_of(stack(tmp_path / "a.dcm", 5, RepresentativeFrameNumber=4)).max() == 4
    assert grey_of(stack(tmp_path / "a.dcm", 5, RepresentativeFrameNumber=9)).max() == 3


def test_a_frame_is_picked_by_its_number(tmp_path: Path) -> None:
    path = stack(tmp_path / "a.dcm", 5)
    assert grey_of(path, View(frame=5)).max() == 5
    assert read_picture(path, View(frame=1)).facts.notes == ()
    with pytest.raises(UsageError, match="frame 6 was asked for; the file has 5"):
        read_picture(path, View(frame=6))


def test_an_enhanced_file_has_windows_and_rescales_of_its_own_for_each_frame(tmp_path: Path) -> None:
    """PS3.3 C.7.6.16: the shared groups hold the rescale, each frame's the window."""

    def groups(**macros: Dataset) -> Dataset:
        group = Dataset()
        for name, macro in macros.items():
            setattr(group, name, [macro])
        return group

    rescale, windows = Dataset(), [Dataset(), Dataset()]
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -10
    for window, centre in zip(windows, (100, 4000), strict=True):
        window.WindowCenter, window.WindowWidth = centre, 200
    path = dicom(
        tmp_path / "a.dcm",
        DEEP,
        NumberOfFrames=2,
        PixelData=DEEP.tobytes() * 2,
        SharedFunctionalGroupsSequence=[groups(PixelValueTransformationSequence=rescale)],
        PerFrameFunctionalGroupsSequence=[groups(FrameVOILUTSequence=window) for window in windows],
    )
    for frame, centre in ((1, 100), (2, 4000)):
        flat = dicom(
            tmp_path / "b.dcm", DEEP, RescaleSlope=2, RescaleIntercept=-10, WindowCenter=centre, WindowWidth=200
        )
        assert (grey_of(path, View(frame=frame)) == grey_of(flat)).all()
        assert read_picture(path, View(frame=frame)).facts.window == (centre, 200)


# ---- compression and colour, on the files that pydicom brings along


@pytest.mark.parametrize(
    ("name", "plain", "tolerance"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm", 0),
        ("MR_small_bigendian.dcm", "MR_small.dcm", 0),
        ("MR_small_implicit.dcm", "MR_small.dcm", 0),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm", 0),
        ("SC_rgb_gdcm_KY.dcm", "SC_rgb_rle.dcm", 0),
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_rle.dcm", 0),
        ("SC_rgb_rle_32bit.dcm", "SC_rgb_rle.dcm", 0),
        ("SC_rgb_jls_lossy_line.dcm", "SC_rgb_rle.dcm", 2),
        ("SC_rgb_jls_lossy_sample.dcm", "SC_rgb_rle.dcm", 2),
        ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", 6),
        ("SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_rle.dcm", 6),
        ("SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle.dcm", 6),
        ("JPGExtended.dcm", "JPEG-lossy.dcm", 0),
        ("liver_expb_1frame.dcm", "liver_1frame.dcm", 0),
    ],
)
def test_a_compressed_file_is_the_plain_one(name: str, plain: str, tolerance: int) -> None:
    """Lossless JPEG, JPEG-LS, JPEG 2000, RLE and the byte orders to the bit; lossy ones and YBR within their loss."""
    distance = numpy.abs(pixels_of(example(name)).astype(int) - pixels_of(example(plain)))
    assert distance.max() <= tolerance


def test_12_bit_jpeg_has_its_known_values() -> None:
    """JPEG Extended beyond 8 bits: 0 to 264, as DCMTK and libjpeg say of this file."""
    assert (
        read_picture(example("JPGExtended.dcm"))
        .facts.notes[-1]
        .startswith("the header names no window: scaled by its own range, 0 to 264")
    )


def test_signed_lossless_jpeg_keeps_its_sign(tmp_path: Path) -> None:
    """Values of 12 bits in 16, read as two's complement."""
    import imagecodecs

    signed = (DEEP.astype(numpy.int16) - 2048) >> 1
    encoded = imagecodecs.jpegls_encode((signed & 0xFFF).astype(numpy.uint16))
    source = again(
        example("MR_small_jpeg_ls_lossless.dcm"), tmp_path / "a.dcm", Rows=16, Columns=16, BitsStored=12, HighBit=11
    )
    data = pydicom.dcmread(source)
    data.PixelData = encapsulate([encoded])
    data["PixelData"].is_undefined_length = True
    data.save_as(source)
    shown = View(window=(0, 2048))
    plain = dicom(tmp_path / "b.dcm", signed, PixelRepresentation=1)
    assert (grey_of(source, shown) == grey_of(plain, shown)).all()


def test_planar_configuration(tmp_path: Path) -> None:
    colours = numpy.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=numpy.uint8)
    planes = colours.transpose(2, 0, 1).tobytes()
    path = dicom(tmp_path / "a.dcm", colours, PlanarConfiguration=1, PixelData=planes)
    assert (pixels_of(path) == colours).all()


def test_colour_has_no_window(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", numpy.zeros((4, 4, 3), dtype=numpy.uint8))
    with pytest.raises(UsageError, match="a window is for grey pictures"):
        read_picture(path, View(window=(40, 400)))


def dataset_of(whole: bytes) -> int:
    """Where the dataset begins: behind the preamble and the meta header, whose length is its first element's value."""
    return 144 + int.from_bytes(whole[140:144], "little")


def deflated(path: Path, content: bytes) -> Path:
    """A file in the deflated syntax whose dataset unpacks to `content`."""
    data = pydicom.dcmread(dicom(path, RAMP))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path)
    whole = path.read_bytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(whole[: dataset_of(whole)] + packer.compress(content) + packer.flush())
    return path


def test_a_deflated_file_is_unpacked_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = dicom(tmp_path / "a.dcm", RAMP).read_bytes()
    dataset = plain[dataset_of(plain) :]
    assert (grey_of(deflated(tmp_path / "b.dcm", dataset)) == RAMP).all()
    monkeypatch.setattr(dicom_decode, "MAX_INFLATED", 1_000_000)
    bomb = deflated(tmp_path / "c.dcm", dataset + bytes(2_000_000))
    assert bomb.stat().st_size < 10_000
    assert "unpacks to more than 1,000,000 bytes" in refused(bomb)


# ---- what is refused, and what is never said


def test_what_holds_no_picture_is_named(tmp_path: Path) -> None:
    kinds = {
        MediaStorageDirectoryStorage: "a DICOMDIR, which lists other files",
        EncapsulatedPDFStorage: "an encapsulated document, such as a PDF",
        "1.2.840.10008.5.1.4.1.1.88.11": "a structured report",
    }
    for kind, name in kinds.items():
        data = pydicom.dcmread(dicom(tmp_path / "a.dcm", RAMP))
        for element in ("Rows", "Columns", "PixelData"):
            delattr(data, element)
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
        data.save_as(tmp_path / "b.dcm")
        assert refused(tmp_path / "b.dcm") == f"this DICOM file holds no picture: it is {name}"


def test_a_file_cut_before_its_pixels(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[: -256 - 12])
    assert refused(path) == "this DICOM file ends before its pixels, or has none"


def test_a_file_without_preamble_is_refused(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[132:])
    assert refused(path).startswith("no DICOM file")


def test_video_is_refused(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    data.PixelData = encapsulate([bytes(64)])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    data.save_as(path)
    assert refused(path) == "this DICOM file is compressed in a way that is not read"


SECRET = "SECRET"


@pytest.mark.parametrize("element", ["NumberOfFrames", "WindowCenter", "RescaleSlope", "PhotometricInterpretation"])
def test_nothing_of_the_header_is_said(element: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A name where a number belongs: not in the error, its traceback, a warning or the picture's facts."""
    path = dicom(
        tmp_path / "a.dcm", DEEP, Modality="SECRET", WindowCenter=1, WindowWidth=1, RescaleSlope=1, RescaleIntercept=0
    )
    data = pydicom.dcmread(path)
    data.pop(element, None)
    data.add_new(element, "LO", "SECRET^NAME")
    data.save_as(path)
    with warnings.catch_warnings(record=True) as warned:
        try:
            said = repr(read_picture(path).facts)
        except LlavamedError as error:
            said = "".join(traceback.format_exception(error))
    captured = capfd.readouterr()
    assert SECRET not in said + captured.out + captured.err + "".join(str(one.message) for one in warned)


def test_the_modality_is_a_known_code_or_nothing(tmp_path: Path) -> None:
    assert read_picture(example("CT_small.dcm")).facts.modality == "CT"
    assert read_picture(dicom(tmp_path / "a.dcm", RAMP, Modality="DOE JOHN")).facts.modality is None
    assert read_picture(dicom(tmp_path / "a.dcm", RAMP)).facts.modality is None


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_jpeg_gdcm.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_jp2klossless.dcm",
        "JPGExtended.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "MR_small_RLE.dcm",
    ],
)
def test_a_cut_stream_is_refused_and_damage_never_ends_the_process(name: str, tmp_path: Path) -> None:
    """60 frames with a few bytes changed: each is read, or refused. GDCM, which decodes them too, aborts on some."""
    data = pydicom.dcmread(example(name))
    frame = next(generate_frames(data.PixelData, number_of_frames=1))

    def store(content: bytes) -> Path:
        data.PixelData = encapsulate([content])
        data["PixelData"].is_undefined_length = True
        data.save_as(tmp_path / "a.dcm")
        return tmp_path / "a.dcm"

    refused(store(frame[: len(frame) // 4 * 2]))
    chance = random.Random(0)
    for _ in range(60):
        content = bytearray(frame)
        for _ in range(chance.choice((1, 4))):
            content[chance.randrange(len(content) if chance.random() < 0.5 else 100)] = chance.randrange(256)
        try:
            read: Picture = read_picture(store(bytes(content)))
            assert read.image.mode == "RGB"
        except PictureError:
            continue


def test_a_frame_that_claims_another_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    data = pydicom.dcmread(example("MR_small_jpeg_ls_lossless.dcm"))
    frame = next(generate_frames(data.PixelData, number_of_frames=1))
    assert jpeg_size(frame) == (64, 64)
    huge = frame.replace(bytes([0, 64, 0, 64]), bytes([0xFF, 0xF0, 0xFF, 0xF0]), 1)
    assert jpeg_size(huge) == (0xFFF0, 0xFFF0)
    data.PixelData = encapsulate([huge])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "a.dcm")
    assert "damaged" in refused(tmp_path / "a.dcm")


# ---- the shared real files

REFUSED = {
    "MR_truncated.dcm": "the pixels of this DICOM file are damaged, or fewer than its header says",
    "RG1_J2KI_cut.dcm": "the pixels of this DICOM file are damaged, or fewer than its header says",
    "badVR.dcm": "the header of this DICOM file is damaged",
    "no_meta.dcm": "no DICOM file",
    "rtplan.dcm": "this DICOM file holds no picture: it is a radiotherapy plan or structure set",
}


def test_real_dicom_files(shared: Path) -> None:
    """All 24, by the manifest: 19 are decoded, 5 refused by their sentence."""
    folder = shared / "data" / "dicom"
    with (folder / "manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24
    for row in rows:
        file = folder / row["file"]
        if file.name in REFUSED:
            assert refused(file).startswith(REFUSED[file.name])
            continue
        picture = read_picture(file)
        if row["columns"]:
            assert picture.image.size == (int(row["columns"]), int(row["rows"])), file
            assert picture.facts.modality == row["modality"]
            assert picture.facts.frames == int(row["frames"] or 1)


def test_polarity_of_real_radiographs(shared: Path) -> None:
    """MONOCHROME1: lungs and air are darker than the spine and the shin bone, and two codings of one film agree."""
    chest = grey_of(shared / "data" / "dicom" / "RG1_J2KI.dcm").astype(float)
    assert chest[600:900, 1080:1200].mean() < chest[600:900, 860:980].mean() - 40, "lung beside spine"
    film, same = (grey_of(shared / "data" / "dicom" / f"RG3_{kind}.dcm").astype(int) for kind in ("J2KI", "JPLY"))
    assert numpy.abs(film - same).mean() < 0.5


def test_a_file_that_lacks_its_last_bytes_shows_the_frames_that_it_has(shared: Path) -> None:
    """Its last delimiter is cut off, over which a reader of the whole file gives up; the ten frames are whole."""
    folder = shared / "data" / "dicom"
    short, whole = folder / "emri_small_jpeg_2k_lossless_too_short.dcm", folder / "emri_small_RLE.dcm"
    for frame in range(1, 11):
        assert (grey_of(short, View(frame=frame)) == grey_of(whole, View(frame=frame))).all()
