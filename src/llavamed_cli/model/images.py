"""From any picture file to an 8-bit RGB picture: the front door, and the reader of ordinary formats.

The content decides how a file is read, never its name alone. Grey levels beyond 8 bits are scaled by the picture's own
range, transparency goes on black, EXIF turns are undone, colour profiles are not applied.
Only formats whose decoders stay inside this process are opened: Pillow would hand PostScript to Ghostscript.

From RGB to what the tower takes, the model's own processor leads (`LoadedModel.pixels`): it pads and crops to the bit
as LLaVA's training code does, which turns every picture to RGB first. LLaVA's inference code pads before that, so the
margin of a grey picture is (116, 116, 116) there, and the mean colour (122, 116, 104) in training and here. Two kinds
of picture are read otherwise than in either: both ignore alpha, and cut 16 bits off at 255.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import LlavamedError, PictureError, UsageError, first_line
from llavamed_cli.model.grey_levels import own_range, scale_to_8_bit
from llavamed_cli.model.picture import (
    DEFAULT_VIEW,
    MAX_PIXELS,
    Picture,
    PictureFacts,
    View,
    check_size,
    chosen_frame,
    frame_notes,
)
from llavamed_cli.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_READERS = 8
RASTER_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "PPM", "AVIF")
DICOM_MAGIC = b"DICM"
DICOM_PREAMBLE = 128
OTHER_FILES = (
    (b"%pdf", "a PDF document"),
    (b"%!ps", "a PostScript file"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG file"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
)
"""What often bears a picture's name: lower-case first bytes, and what they are of."""
WHITE_IS_ZERO = (0x0106, 0)
"""TIFF's PhotometricInterpretation (TIFF 6.0, page 37): 0 stands for white."""


def open_picture(path: Path) -> Image:
    """The RGB image of `read_picture`, as the file itself would have it shown."""
    return read_picture(path).image


def read_picture(path: Path, view: View = DEFAULT_VIEW) -> Picture:
    """Read a PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000, DICOM or (with its extra) NIfTI file.

    Raises:
        PictureError: absent, empty, damaged, too large, or no picture; the message names the file.
        UsageError: `view` asks for a frame or a window that this file does not have.
    """
    head = _first_bytes(path)
    if head[DICOM_PREAMBLE:] == DICOM_MAGIC:
        from llavamed_cli.model.dicom import read_dicom

        return read_dicom(path, view)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        from llavamed_cli.model.nifti import read_nifti

        return read_nifti(path, view)
    return _read_raster(path, head, view)


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


def _first_bytes(path: Path) -> bytes:
    """The preamble's length of bytes of a regular file. A link is followed, for caches are made of them; what it leads
    to must be a file, since a pipe or a device may never end."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise PictureError("a folder, not a picture", where=str(path))
        if not stat.S_ISREG(found.st_mode):
            raise PictureError("a pipe or a device, not a picture file", where=str(path))
        if found.st_size == 0:
            raise PictureError("the file is empty", where=str(path))
        with path.open("rb") as stream:
            return stream.read(DICOM_PREAMBLE + len(DICOM_MAGIC))
    except FileNotFoundError as error:
        raise PictureError("no such picture", where=str(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or first_line(error)
        raise PictureError(f"the file cannot be read: {reason}", where=str(path)) from error


def _read_raster(path: Path, head: bytes, view: View) -> Picture:
    from PIL import Image, ImageOps, UnidentifiedImageError

    # By module and for good: `catch_warnings` is not safe in threads, and these libraries warn of every odd header.
    warnings.filterwarnings("ignore", module=r"PIL\b")
    Image.init()
    known = [name for name in RASTER_FORMATS if name in Image.OPEN]  # a Pillow may be built without one of them
    try:
        with Image.open(path, formats=known) as opened:
            check_size(opened.width, opened.height, path)
            if view.window:
                raise UsageError(f"a window is for DICOM and NIfTI; this is a {opened.format}", where=str(path))
            frames = getattr(opened, "n_frames", 1)
            frame = chosen_frame(view, frames, 1, path)
            opened.seek(frame - 1)
            check_size(opened.width, opened.height, path)
            opened.load()
            image, notes = _to_rgb(ImageOps.exif_transpose(opened), _white_is_zero(opened))
            facts = PictureFacts(
                format=str(opened.format),
                mode=opened.mode,
                width=image.width,
                height=image.height,
                frames=frames,
                frame=frame,
                notes=frame_notes(view, frame, frames) + notes,
            )
            return Picture(image, facts)
    except UnidentifiedImageError as error:
        raise PictureError(_not_a_picture(path, head), where=str(path)) from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"more than the {MAX_PIXELS:,} pixels that are read", where=str(path)) from error
    except LlavamedError:
        raise
    except Exception as error:  # a decoder fed a damaged file may raise anything
        raise PictureError(f"the picture is damaged: {first_line(error)}", where=str(path)) from error


def _not_a_picture(path: Path, head: bytes) -> str:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for first, name in OTHER_FILES:
        if start.startswith(first):
            return f"{name}, not a picture"
    if path.suffix.lower() in (".dcm", ".dicom"):
        return "no DICOM file, and not a picture in any other known format: its preamble is missing or damaged"
    return "not a picture in any known format"


def _to_rgb(picture: Image, white_is_zero: bool) -> tuple[Image, tuple[str, ...]]:
    """An 8-bit RGB picture of any Pillow mode, and what must be said of it: deep grey is scaled by its range, what is
    transparent lies on black.

    CMYK is taken at its word, as Pillow and the reference do: Adobe writes it inverted in JPEG, and Pillow turns every
    CMYK JPEG over for that.
    """
    import numpy
    from PIL import Image

    if picture.mode in ("F", "I") or picture.mode.startswith("I;16"):
        values = numpy.asarray(picture)
        low, high = own_range(values)
        grey = scale_to_8_bit(values, (low, high))
        image = Image.fromarray(255 - grey if white_is_zero else grey).convert("RGB")
        return image, (f"grey levels are scaled by their own range, {low:g} to {high:g}",)
    if picture.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        ground = Image.new("RGB", layered.size)
        ground.paste(layered, mask=layered.getchannel("A"))
        return ground, ()
    return picture.convert("RGB"), ()


def _white_is_zero(picture: Any) -> bool:
    """Whether a deep TIFF counts from white. Pillow turns such 8-bit pictures over by itself, and deeper ones not."""
    tag, value = WHITE_IS_ZERO
    return bool(getattr(picture, "tag_v2", {}).get(tag) == value)
