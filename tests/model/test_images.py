"""Any picture file becomes 8-bit RGB, or one error that names it; never anything else."""

from __future__ import annotations

import json
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from llavamed_cli.errors import PictureError, UsageError
from llavamed_cli.model.images import open_picture, read_picture
from llavamed_cli.model.picture import View

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's pixel statistics (its preprocessor_config.json)."""
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


def test_a_deep_tiff_that_counts_from_white_is_turned_over(tmp_path: Path) -> None:
    """Pillow does so for 8 bits alone; the tag is TIFF 6.0's PhotometricInterpretation."""
    for depth in (numpy.uint16, numpy.float32):
        Image.fromarray(RAMP.astype(depth) * 16).save(tmp_path / "a.tif")
        content = (tmp_path / "a.tif").read_bytes()
        black_is_zero = struct.pack("<HHIH", 0x0106, 3, 1, 1)
        assert content.count(black_is_zero) == 1
        (tmp_path / "a.tif").write_bytes(content.replace(black_is_zero, black_is_zero[:-2] + b"\0\0"))
        assert (grey_of(tmp_path / "a.tif") == 255 - RAMP).all()


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


def test_cmyk_in_tiff_is_not_inverted_as_in_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.tif")
    assert tuple(pixels_of(tmp_path / "red.tif")[4, 4]) == (255, 0, 0)


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_the_first_frame_is_shown_and_that_is_said(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **lossless)
    first = read_picture(tmp_path / f"a.{suffix}")
    assert first.image.getpixel((4, 3)) == (255, 0, 0)
    assert (first.facts.frame, first.facts.frames) == (1, 3)
    assert first.facts.notes == ("frame 1 of 3 is shown; --frame picks another",)
    third = read_picture(tmp_path / f"a.{suffix}", View(frame=3))
    assert third.image.getpixel((4, 3)) == (0, 0, 255)
    assert third.facts.notes == ()
    with pytest.raises(UsageError, match="frame 4 was asked for; the file has 3"):
        read_picture(tmp_path / f"a.{suffix}", View(frame=4))


def test_a_window_is_not_for_ordinary_pictures(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="a window is for DICOM and NIfTI; this is a PNG"):
        read_picture(tmp_path / "a.png", View(window=(40, 400)))


@pytest.mark.parametrize(
    "view", [{"window": (40, 0)}, {"window": (40, -1)}, {"window": (float("nan"), 4)}, {"frame": 0}]
)
def test_a_senseless_view_is_refused(view: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        View(**view)


def test_facts_of_an_ordinary_picture(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(numpy.uint16) + 1000).save(tmp_path / "a.png")
    facts = read_picture(tmp_path / "a.png").facts
    assert (facts.format, facts.mode, facts.width, facts.height) == ("PNG", "I;16", 16, 16)
    assert facts.notes == ("grey levels are scaled by their own range, 1000 to 1255",)
    assert (facts.window, facts.modality, facts.frames) == (None, None, 1)


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


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript file"),
        (b"PK\x03\x04rest", "a ZIP archive"),
        (b"\n <svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", "an XML or SVG file"),
        (b"<!DOCTYPE html><title>404</title>", "an HTML page"),
    ],
)
def test_what_bears_a_pictures_name_is_told_by_its_own(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert refused(tmp_path / "a.png") == f"{what}, not a picture"


def test_postscript_never_reaches_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow opens PostScript by running another program; here it is not even looked at."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    monkeypatch.setattr("PIL.EpsImagePlugin.EpsImageFile._open", lambda self: pytest.fail("opened"))
    assert refused(tmp_path / "a.eps") == "a PostScript file, not a picture"


def test_only_files_are_opened(tmp_path: Path) -> None:
    """A link leads where it leads: to a picture it is one, to a device that never ends it is not."""
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    assert (grey_of(tmp_path / "linked.png") == RAMP).all()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "lost.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    assert refused(tmp_path / "pipe.png") == "a pipe or a device, not a picture file"
    assert refused(tmp_path / "endless.png") == "a pipe or a device, not a picture file"
    assert refused(tmp_path / "lost.png") == "no such picture"
    assert "cannot be read" in refused(tmp_path / "round.png")


def test_a_bomb_of_text_is_refused(tmp_path: Path) -> None:
    """A PNG whose compressed comment unpacks to far more than the file."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 50_000_000, zip=True)
    Image.fromarray(RAMP).save(tmp_path / "a.png", pnginfo=text)
    assert (tmp_path / "a.png").stat().st_size < 100_000
    assert "too large" in refused(tmp_path / "a.png")


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    noise = numpy.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=numpy.uint8)
    for suffix in ("png", "jpg", "tif", "bmp", "webp", "gif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(path)


def test_damaged_files_never_raise_anything_else(tmp_path: Path) -> None:
    """400 files with some bytes changed: each is read, or refused as a picture."""
    chance = random.Random(0)
    noise = numpy.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=numpy.uint8)
    originals = []
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


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_difficult_files(shared: Path) -> None:
    files = [file for file in sorted((shared / "data" / "edge_images").iterdir()) if file.suffix != ".py"]
    assert {*REFUSED, *PLAIN} <= {file.name for file in files}
    assert len(files) == 35
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


# ---- pixels: the model's own processor, which other tools run too, is the reference's arithmetic


def processor(side: int, pad: bool) -> Any:
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    return LlavaImageProcessorPil(do_pad=pad, size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def pixels_for_the_tower(picture: Image.Image, side: int, pad: bool) -> numpy.ndarray:
    pixels: numpy.ndarray = processor(side, pad)(images=[picture], return_tensors="np")["pixel_values"][0]
    return pixels


@pytest.mark.parametrize("size", [(31, 12), (12, 31), (20, 20), (1, 9)])
def test_padding_is_the_mean_colour_and_its_offset_is_the_floor(size: tuple[int, int]) -> None:
    """int(255 mean) in each channel, floor((long - short) / 2) before the picture (facts of LLaVA's mm_utils.py)."""
    width, height = size
    noise = numpy.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=numpy.uint8)
    side = max(size)
    square = numpy.empty((side, side, 3), dtype=numpy.uint8)
    square[:] = [int(255 * mean) for mean in MEAN]
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = noise
    resized = numpy.asarray(Image.fromarray(square).resize((32, 32), Image.Resampling.BICUBIC))
    expected = ((resized / 255 - MEAN) / STD).transpose(2, 0, 1)
    assert numpy.abs(pixels_for_the_tower(Image.fromarray(noise), 32, True) - expected).max() < 1e-5


def test_a_models_pixels_are_its_processors(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    from llavamed_cli.model.load import load_model

    Image.effect_mandelbrot((90, 60), (-2, -1, 1, 1), 40).convert("RGB").save(tmp_path / "a.png")
    ours = load_model(str(tiny_model), device="cpu").pixels([open_picture(tmp_path / "a.png")])
    others = AutoProcessor.from_pretrained(tiny_model).image_processor(
        images=[Image.open(tmp_path / "a.png")], return_tensors="pt"
    )
    assert (ours == others["pixel_values"]).all()


DIFFERENT = {"2": "alpha lies on black, not ignored", "7": "16 bits are scaled, not cut off", "8": "alpha, as 2"}
"""Pictures that the reference spoils and we do not; every other mode is its training code's, bit for bit."""


def test_pixels_are_those_of_the_references_training(shared: Path) -> None:
    wanted = numpy.load(shared / "oracle" / "images" / "train_llava.npz")
    compared = 0
    for file in sorted((shared / "oracle" / "images").glob("i*.png")):
        number = file.name[1]
        for way in ("pad", "square"):
            pixels = pixels_for_the_tower(open_picture(file), 32, way == "pad")
            distance = numpy.abs(pixels - wanted[f"{number}.train_{way}"]).max()
            assert (distance > 0.1) if number in DIFFERENT else (distance <= 1e-5), (file.name, way, distance)
            compared += 1
    assert compared == 20


def as_inference_pads(file: Path) -> Image.Image:
    """The reference's inference pads before it turns a picture to RGB, so that a grey one's margin is the mean of the
    mean colour; its training, and ours, do it after. Of RGB pictures nothing changes."""
    with Image.open(file) as picture:
        if picture.mode != "L":
            return open_picture(file)
        side = max(picture.size)
        square = Image.new("L", (side, side), int(255 * sum(MEAN) / 3))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        return square.convert("RGB")


def test_pixels_are_those_of_the_references_inference(shared: Path) -> None:
    """All modes, but for the padding of palettes: their margin there is whatever colour has the mean's number."""
    folder = shared / "oracle" / "images"
    wanted = numpy.load(folder / "processed.npz")
    compared = 0
    for file in sorted(folder.glob("i*.png")):
        number, mode = file.name[1], file.name.split("_")[1]
        for side in (32, 56):
            for way, pad in (("pad.lo", True), ("square", False)):
                key = f"{number}.p{side}.{way}"
                if key not in wanted or number in DIFFERENT or (pad and mode == "P"):
                    continue
                picture = as_inference_pads(file) if pad else open_picture(file)
                distance = numpy.abs(
                    pixels_for_the_tower(picture, side, pad) - wanted[key].reshape(3, side, side)
                ).max()
                assert distance <= 1e-5, (key, distance)
                compared += 1
    assert compared == 24
    full = numpy.load(folder / "processed_full.npz")["pad_lo_224"]
    first = open_picture(next(folder.glob("i0*.png")))
    assert numpy.abs(pixels_for_the_tower(first, 224, True) - full.reshape(3, 224, 224)).max() <= 1e-5


def test_pixels_of_the_v15_prompts(shared: Path) -> None:
    from safetensors.numpy import load_file

    folder = shared / "oracle" / "v15"
    outputs = load_file(folder / "outputs.safetensors")
    compared = 0
    for prompt in json.loads((folder / "prompts.json").read_text(encoding="utf-8")):
        for place, name in enumerate(prompt["images"]):
            wanted = outputs[f"pixel_values.{prompt['index']}"][place]
            pixels = pixels_for_the_tower(as_inference_pads(folder / name), 32, True)
            assert numpy.abs(pixels - wanted).max() <= 1e-5, name
            compared += 1
    assert compared >= 5
