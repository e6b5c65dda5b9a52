"""Pictures on their way into `images/`: checked by header, then by pixels, and kept under a name of safe letters.

The name of a picture that was read ends in a digest of its bytes, so the same name is always the same picture: an
interrupted run finds what it has written, and two records never overwrite each other's.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.errors import PictureError
from llavamed_cli.files import atomic_write, file_sha256
from llavamed_cli.model.images import MAX_PIXELS, open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

PLAIN_ENDINGS = {"PNG": ".png", "JPEG": ".jpg"}
PLAIN_MODES = ("L", "RGB")
ORIENTATION = 0x0112
"""EXIF's tag: how a viewer should turn the picture. 1 is upright (EXIF 2.3, 4.6.4)."""
LONGEST_STEM = 80
DIGEST_LETTERS = 16

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Drawing:
    """A picture that code draws when it is asked for. name: its own in one data set."""

    name: str
    draw: Callable[[], Image]


@dataclass(frozen=True)
class Staged:
    """A picture that screening has checked and put aside under the name that it will bear. path: where it lies now."""

    name: str
    path: Path


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height from the header alone; None where Pillow cannot tell (DICOM).

    Raises:
        PictureError: empty, absent, or more pixels than are ever read.
    """
    from PIL import Image

    if not path.is_file():
        raise PictureError("no such picture", where=str(path))
    if path.stat().st_size == 0:
        raise PictureError("the file is empty", where=str(path))
    try:
        with _opened(path) as header:
            size = header.size
    except Image.DecompressionBombError as error:
        raise PictureError("more pixels than are ever read", where=str(path)) from error
    except (OSError, ValueError, SyntaxError, EOFError):
        return None
    if size[0] * size[1] > MAX_PIXELS:
        raise PictureError("more pixels than are ever read", where=str(path))
    return size


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """A picture of which only the header is read. Pillow warns from 89 million pixels on; the limit here is ours."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as opened:
            yield opened


def keep(picture: Path | Drawing | Staged, stem: str, folder: Path) -> str:
    """Put a picture into `folder` if it is not there, and return its name. stem: names a picture that has no name yet.

    Raises:
        PictureError: the picture cannot be read to its end, or is no longer where it was staged.
    """
    if isinstance(picture, Drawing):
        return keep_drawing(picture, folder)
    if isinstance(picture, Path):
        return keep_picture(picture, stem, folder)
    if not _is_whole(folder / picture.name):
        try:
            picture.path.replace(folder / picture.name)
        except FileNotFoundError as error:
            raise PictureError("the staged picture is gone", where=str(picture.path)) from error
    return picture.name


def keep_picture(path: Path, stem: str, folder: Path) -> str:
    """Put a picture into `folder` if it is not there, and return its name.

    The bytes stay as they are when the file is an upright PNG or JPEG in 8-bit grey or RGB; anything else (16-bit,
    CMYK, palettes, alpha, TIFF, DICOM, turned by EXIF, several frames) becomes an RGB PNG, as training would see it.

    Raises:
        PictureError: the picture cannot be read to its end.
    """
    name = f"{safe_stem(stem)}-{file_sha256(path)[:DIGEST_LETTERS]}"
    for known in PLAIN_ENDINGS.values():
        if _is_whole(folder / (name + known)):
            return name + known
    picture = open_picture(path)
    ending = _plain_ending(path)
    name += ending or ".png"
    with atomic_write(folder / name, "wb", durable=False) as stream:
        if ending:
            with path.open("rb") as original:
                shutil.copyfileobj(original, stream)
        else:
            picture.save(stream, "PNG")
    return name


def keep_drawing(drawing: Drawing, folder: Path) -> str:
    """Put a drawing into `folder` as PNG if it is not there, and return its name."""
    name = f"{safe_stem(drawing.name)}.png"
    if not _is_whole(folder / name):
        picture = drawing.draw()
        with atomic_write(folder / name, "wb", durable=False) as stream:
            picture.save(stream, "PNG")
    return name


def _is_whole(file: Path) -> bool:
    """Whether a picture lies there. A power cut may leave an empty one, for pictures are not forced to the disk."""
    return file.is_file() and file.stat().st_size > 0


def safe_stem(text: str) -> str:
    """A file name's stem of letters, digits, dot, dash and underscore, that does not begin with a dot."""
    return _UNSAFE.sub("_", text).strip("._")[:LONGEST_STEM] or "picture"


def _plain_ending(path: Path) -> str | None:
    """`.png` or `.jpg` where the bytes can be kept; None where the picture must be converted."""
    try:
        with _opened(path) as header:
            upright = header.getexif().get(ORIENTATION, 1) == 1
            whole = getattr(header, "n_frames", 1) == 1 and "transparency" not in header.info
            plain = header.mode in PLAIN_MODES and upright and whole
            return PLAIN_ENDINGS.get(header.format or "") if plain else None
    except (OSError, ValueError, SyntaxError):  # a DICOM file
        return None
