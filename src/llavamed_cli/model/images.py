"""From a picture file to an 8-bit RGB picture, whatever the file holds.

Grey levels beyond 8 bits are scaled by the picture's own range, transparency goes on black, EXIF turns are undone.
DICOM gives pixels only: nothing of its header leaves this module.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import PictureError, first_line
from llavamed_cli.progress import Progress

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

DICOM_MAGIC = b"DICM"
DICOM_PREAMBLE = 128
PICTURE_READERS = 8
MAX_PIXELS = 100_000_000
"""A picture above this is refused unread: a few kilobytes of PNG can ask for gigabytes."""


def open_picture(path: Path) -> Image:
    """Read a PNG, JPEG, TIFF, WebP, BMP, GIF (first frame) or DICOM file as an RGB picture.

    Raises:
        PictureError: absent, empty, truncated, too large, or no picture; the message names the file.
    """
    if not path.is_file():
        raise PictureError("no such picture" if not path.exists() else "a folder, not a picture", where=str(path))
    if path.stat().st_size == 0:
        raise PictureError("the file is empty", where=str(path))
    return _read_dicom(path) if _is_dicom(path) else _read_raster(path)


def unreadable_pictures(pictures: Iterable[Path], label: str, progress: Progress) -> dict[Path, str]:
    """Open every picture once, several at a time; return those that cannot be, with the reason.

    Better known before a long run than in the middle of it.
    """

    def fault(path: Path) -> tuple[Path, str | None]:
        try:
            open_picture(path)
        except PictureError as error:
            return path, error.what
        return path, None

    distinct = sorted(set(pictures))
    bad: dict[Path, str] = {}
    with progress.bar(label, len(distinct)) as bar, ThreadPoolExecutor(PICTURE_READERS) as readers:
        for path, reason in readers.map(fault, distinct):
            bar.advance()
            if reason is not None:
                bad[path] = reason
    return bad


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(DICOM_PREAMBLE + len(DICOM_MAGIC))
    return head[DICOM_PREAMBLE:] == DICOM_MAGIC or path.suffix.lower() in (".dcm", ".dicom")


def _read_raster(path: Path) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise PictureError(
                        f"{opened.width} x {opened.height} pixels, more than the {MAX_PIXELS:,} read", where=str(path)
                    )
                opened.load()
                return to_rgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError as error:
        raise PictureError("not a picture in any known format", where=str(path)) from error
    except Image.DecompressionBombError as error:
        raise PictureError("too many pixels to read safely", where=str(path)) from error
    except PictureError:
        raise
    except Exception as error:  # a decoder fed a damaged file may raise anything
        raise PictureError(f"the picture is damaged: {first_line(error)}", where=str(path)) from error


def to_rgb(picture: Image) -> Image:
    """An 8-bit RGB picture of any Pillow mode: deep grey scaled by its range, alpha composited on black."""
    import numpy
    from PIL import Image

    if picture.mode in ("F", "I") or picture.mode.startswith("I;16"):
        return Image.fromarray(scale_to_8_bit(numpy.asarray(picture))).convert("RGB")
    if picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        ground = Image.new("RGBA", layered.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, layered).convert("RGB")
    return picture.convert("RGB")


def scale_to_8_bit(values: numpy.ndarray) -> numpy.ndarray:
    """Scale numbers [height, width] of any dtype to uint8 by their own finite minimum and maximum."""
    import numpy

    numbers = values.astype(numpy.float64)
    finite = numbers[numpy.isfinite(numbers)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if high <= low:
        return numpy.zeros(values.shape, dtype=numpy.uint8)
    scaled = (numpy.nan_to_num(numbers, nan=low, posinf=high, neginf=low) - low) / (high - low)
    return numpy.rint(scaled * 255).astype(numpy.uint8)


def _read_dicom(path: Path) -> Image:
    """The first frame of a DICOM file."""
    import pydicom
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path, force=True)
            if "PixelData" not in data:
                raise PictureError("this DICOM file holds no picture", where=str(path))
            if int(data.Rows) * int(data.Columns) > MAX_PIXELS:
                raise PictureError(f"more pixels than the {MAX_PIXELS:,} read", where=str(path))
            return Image.fromarray(_dicom_pixels(data)).convert("RGB")
    except PictureError:
        raise
    except (RuntimeError, NotImplementedError) as error:  # no decoder for this transfer syntax
        raise PictureError(f"this DICOM file cannot be decoded: {first_line(error)}", where=str(path)) from error
    except Exception as error:  # pydicom raises whatever a damaged element leads to, and may quote the header in it
        raise PictureError(
            f"this DICOM file is damaged, or its header is wrong ({type(error).__name__})", where=str(path)
        ) from error


def _dicom_pixels(data: Any) -> numpy.ndarray:
    """uint8 [rows, columns] or [rows, columns, 3]: palettes looked up; grey through the modality and VOI transforms,
    MONOCHROME1 inverted (DICOM PS3.3 C.11)."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

    pixels = pixel_array(data, index=0)
    meaning = data.get("PhotometricInterpretation")
    if meaning == "PALETTE COLOR":
        colours = apply_color_lut(pixels, data)
        return (colours >> 8 if colours.dtype.itemsize > 1 else colours).astype("uint8")
    if data.get("SamplesPerPixel", 1) == 3:
        return scale_to_8_bit(pixels) if pixels.dtype.itemsize > 1 else pixels
    grey = scale_to_8_bit(apply_voi_lut(apply_modality_lut(pixels, data), data))
    return 255 - grey if meaning == "MONOCHROME1" else grey
