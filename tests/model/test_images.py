"""Any picture file becomes 8-bit RGB, or one error that names it; never anything else."""

from __future__ import annotations

import csv
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy
import pydicom
import pytest
from PIL import Image, ImageOps
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from llavamed_cli.errors import PictureError
from llavamed_cli.model.images import open_picture, scale_to_8_bit

RAMP = numpy.arange(256, dtype=numpy.uint8).reshape(16, 16)


def pixels_of(path: Path) -> numpy.ndarray:
    picture = open_picture(path)
    assert picture.mode == "RGB"
    return numpy.asarray(picture)


def grey_of(path: Path) -> numpy.ndarray:
    """The one channel of a grey picture."""
    pixels = pixels_of(path)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def refused(path: Path) -> str:
    with pytest.raises(PictureError) as error:
        open_picture(path)
    assert error.value.where == str(path)
    return error.value.what


# ---- rasters


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "bmp", "gif"])
def test_8_bit_grey_comes_back_exactly(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(RAMP).convert("RGB").save(
        tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {})
    )
    assert (grey_of(tmp_path / f"a.{suffix}") == RAMP).all()


@pytest.mark.parametrize("low, high", [(0, 65535), (0, 4095), (30000, 30510)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_by_its_own_range(low: int, high: int, suffix: str, tmp_path: Path) -> None:
    deep = (low + RAMP.astype(numpy.float64) / 255 * (high - low)).round().astype(numpy.uint16)
    Image.fromarray(deep).save(tmp_path / f"a.{suffix}")
    assert numpy.abs(grey_of(tmp_path / f"a.{suffix}").astype(int) - RAMP).max() == 0


def test_float_grey_with_holes(tmp_path: Path) -> None:
    deep = RAMP.astype(numpy.float32) / 255
    deep[0, 1], deep[0, 2] = numpy.nan, numpy.inf
    Image.fromarray(deep).save(tmp_path / "a.tif")
    grey = grey_of(tmp_path / "a.tif")
    assert list(grey[0, :4]) == [0, 0, 255, 3]
    assert (grey[1:] == RAMP[1:]).all()


def test_a_flat_deep_picture_is_black() -> None:
    assert (scale_to_8_bit(numpy.full((2, 3), 900)) == numpy.zeros((2, 3))).all()
    assert (scale_to_8_bit(numpy.full((2, 3), numpy.nan)) == numpy.zeros((2, 3))).all()


def test_alpha_lies_on_black(tmp_path: Path) -> None:
    layered = numpy.zeros((1, 3, 4), dtype=numpy.uint8)
    layered[0] = [(200, 100, 50, 255), (200, 100, 50, 0), (200, 100, 50, 128)]
    Image.fromarray(layered).save(tmp_path / "a.png")
    seen = pixels_of(tmp_path / "a.png")[0]
    assert tuple(seen[0]) == (200, 100, 50)
    assert tuple(seen[1]) == (0, 0, 0)
    assert numpy.abs(seen[2].astype(int) - (100, 50, 25)).max() <= 1


def test_a_transparent_palette_entry_lies_on_black(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png", transparency=0)
    assert [tuple(pixel) for pixel in pixels_of(tmp_path / "a.png")[0]] == [(0, 0, 0), (0, 255, 0)]


def test_an_exif_turn_is_undone(tmp_path: Path) -> None:
    picture = Image.new("RGB", (32, 16))
    picture.paste("white", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif, quality=100)
    turned = open_picture(tmp_path / "a.jpg")
    assert turned.size == (16, 32)
    assert turned.getpixel((8, 4)) > (200, 200, 200)
    assert turned.getpixel((8, 28)) < (50, 50, 50)


def test_cmyk_and_one_bit(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    red, green, blue = pixels_of(tmp_path / "red.jpg")[4, 4].astype(int)
    assert red > 250
    assert max(green, blue) < 6
    Image.fromarray(RAMP > 127).save(tmp_path / "bits.png")
    assert (grey_of(tmp_path / "bits.png") == numpy.where(RAMP > 127, 255, 0)).all()


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    misnamed = (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert (grey_of(misnamed) == RAMP).all()


def png_header(width: int, height: int) -> bytes:
    """A PNG that asks for width x height pixels and holds none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width, height", [(12_000, 12_000), (60_000, 60_000)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_header(width, height))
    assert "pixels" in refused(tmp_path / "a.png")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, content in {"empty.png": b"", "page.jpg": b"<html></html>", "noise.png": bytes(range(200))}.items():
        (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / "absent.png") == "no such picture"
    assert refused(tmp_path / "folder") == "a folder, not a picture"
    assert refused(tmp_path / "empty.png") == "the file is empty"
    assert "not a picture" in refused(tmp_path / "page.jpg")
    assert "not a picture" in refused(tmp_path / "noise.png")


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    noise = numpy.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=numpy.uint8)
    for suffix in ("png", "jpg", "tif", "bmp", "webp", "gif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(path)


# ---- DICOM


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


def test_the_first_of_several_frames_is_read(tmp_path: Path) -> None:
    frames = numpy.stack([RAMP, 255 - RAMP])
    path = dicom(tmp_path / "a.dcm", RAMP, NumberOfFrames=2, PixelData=frames.tobytes())
    assert (grey_of(path) == RAMP).all()


def test_a_compressed_dicom(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    data.compress(RLELossless)
    data.save_as(path)
    assert (grey_of(path) == RAMP).all()


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


def test_a_dicom_without_pixels_is_refused(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    del data.PixelData
    data.save_as(path)
    assert refused(path) == "this DICOM file holds no picture"


def test_damaged_files_never_raise_anything_else(tmp_path: Path) -> None:
    """400 files with some bytes changed: each is read, or refused as a picture."""
    chance = random.Random(0)
    noise = numpy.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=numpy.uint8)
    originals = [dicom(tmp_path / "a.dcm", RAMP)]
    for suffix in ("png", "jpg", "tif", "gif", "bmp", "webp"):
        Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
        originals.append(tmp_path / f"a.{suffix}")
    opened = 0
    for _ in range(400):
        original = chance.choice(originals)
        content = bytearray(original.read_bytes())
        for _ in range(chance.choice((1, 4, 16))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        damaged = tmp_path / f"damaged{original.suffix}"
        damaged.write_bytes(content[: chance.randrange(1, len(content))] if chance.random() < 0.2 else content)
        try:
            opened += open_picture(damaged).mode == "RGB"
        except PictureError as error:
            assert error.where == str(damaged)
    assert 0 < opened < 400


# ---- real files

REFUSED = {
    "bad_crc.png",
    "bomb_20000x20000.png",
    "empty.jpg",
    "html_named.jpg",
    "random_bytes.jpg",
    "truncated.png",
    "truncated_half.jpg",
    "truncated_header.jpg",
}
PLAIN = [
    "whole.jpg",
    "gray8.jpg",
    "progressive.jpg",
    "icc_srgb.jpg",
    "trailing_garbage.jpg",
    "jpeg_named.png",
    "lossy.webp",
    "uncompressed.bmp",
    "one_pixel.png",
    "very_tall_2x700.png",
    "very_wide_1024x3.png",
    "multipage.tif",
    "bilevel.png",
    "cmyk.jpg",
    "animated.gif",
]
NEEDS_A_PLUGIN = ("JPEG Extended", "JPEG-LS", "JPEG Lossless")
"""Transfer syntaxes that pydicom decodes with pylibjpeg alone, which is no dependency of ours."""


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_difficult_files(shared: Path) -> None:
    files = [file for file in sorted((shared / "data" / "edge_images").iterdir()) if file.suffix != ".py"]
    assert {*REFUSED, *PLAIN} <= {file.name for file in files}
    for file in files:
        if file.name in REFUSED:
            refused(file)
            continue
        picture = open_picture(file)
        with Image.open(file) as opened:
            assert picture.size == ImageOps.exif_transpose(opened).size
        assert picture.mode == "RGB"


@pytest.mark.parametrize("name", PLAIN)
def test_what_pillow_reads_plainly_is_read_the_same(name: str, shared: Path) -> None:
    file = shared / "data" / "edge_images" / name
    with Image.open(file) as opened:
        assert open_picture(file).tobytes() == opened.convert("RGB").tobytes()


def test_real_dicom_files(shared: Path) -> None:
    folder = shared / "data" / "dicom"
    with (folder / "manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24
    for row in rows:
        file = folder / row["file"]
        readable = row["pydicom3_pixel_array"].startswith("ok")
        if readable and not row["transfer_syntax"].startswith(NEEDS_A_PLUGIN):
            assert open_picture(file).size == (int(row["columns"]), int(row["rows"])), file
            continue
        try:
            open_picture(file)
        except PictureError as error:
            assert error.where == str(file)
        else:
            assert readable
