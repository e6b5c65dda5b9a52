"""What the words after `ask` are: pictures, wherever they lie, and a question.

A picture is a file, a folder of DICOM, an https address, or `-` for what is piped in. The question is the last word
that is none of these; a word written like a picture's file is never taken for a question.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from llavamed_cli.errors import LlavamedError, PictureError, UsageError
from llavamed_cli.model.picture import Picture, View

STDIN = "-"
STDIN_TOLD = "standard input"
MAX_STDIN_BYTES = 2**30
SCHEMES = ("https://", "http://")
RASTER = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".j2k", ".pgm", ".ppm", ".avif")
SUFFIXES = frozenset(
    (*RASTER, ".dcm", ".dicom", ".ima", ".nii", ".gz", ".pdf", ".svg", ".heic", ".mha", ".nrrd", ".zip")
)
"""Of what is meant as a picture, also where it cannot be read as one."""


@dataclass(frozen=True)
class Words:
    """pictures: where each lies. question: None where none was given."""

    pictures: tuple[str, ...]
    question: str | None


def sort_words(words: Sequence[str], *, questions_given: bool = False) -> Words:
    """Tell pictures from the question.

    Args:
        questions_given: by an option, so that every word is a picture.

    Raises:
        PictureError: a word stands where a picture must, and nothing of that name is there.
        UsageError: there is no picture.
    """
    others = [place for place, word in enumerate(words) if not _is_place(word)]
    asked = None
    if others and not questions_given and not names_a_picture(words[others[-1]]):
        asked = others.pop()
    if others:
        word = words[others[0]]
        raise PictureError("no such picture", where=word or "''", hint=_nearest(word))
    pictures = tuple(word for place, word in enumerate(words) if place != asked)
    if not pictures:
        raise UsageError("no picture is named", hint='llavamed ask scan.png "What abnormality is seen?"')
    if pictures.count(STDIN) > 1:
        raise UsageError("what is piped in (-) can be one picture")
    return Words(pictures, None if asked is None else words[asked])


def check_question(question: str) -> str:
    """The question without spaces around it.

    Raises:
        UsageError: it is empty, or a picture stands in its place.
    """
    words = question.strip()
    if not words:
        raise UsageError("the question is empty")
    if _is_place(words) and names_a_picture(words):
        raise UsageError(
            f"a picture stands where the question belongs: {words}", hint="Pictures are named without -q, before it."
        )
    return words


def open_shown(where: str, view: View) -> Picture:
    """Open what `sort_words` calls a picture.

    Raises:
        PictureError, UsageError, FetchError: it cannot be had; the message names it as it was typed.
    """
    if where == STDIN:
        return _open_bytes(_piped(), STDIN_TOLD, "piped", view)
    if where.lower().startswith(SCHEMES):
        from llavamed_cli.asking.web_picture import fetch_picture, told

        return _open_bytes(fetch_picture(where), told(where), Path(told(where)).name or "picture", view)
    path = Path(where).expanduser()
    if path.is_dir():
        from llavamed_cli.asking.dicom_folder import read_dicom_folder

        return read_dicom_folder(path, view)
    from llavamed_cli.model.images import read_picture

    return read_picture(path, view)


def told_name(where: str) -> str:
    """A picture's name in notes: its own, without folders."""
    if where == STDIN:
        return STDIN_TOLD
    return Path(where.partition("?")[0]).name or where


def names_a_picture(word: str) -> bool:
    """Whether a word is written like a picture's file: by its ending, or as a path without spaces."""
    if any(sign.isspace() for sign in word.strip()):
        return Path(word).suffix.lower() in SUFFIXES and len(word) < 256
    return word.startswith(SCHEMES) or Path(word).suffix.lower() in SUFFIXES or "/" in word or "\\" in word


def _is_place(word: str) -> bool:
    if word == STDIN or word.lower().startswith(SCHEMES):
        return True
    if not word.strip():
        return False
    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long for a name, or none that can be one: a question
        return False


def _nearest(word: str) -> str | None:
    """The name in the same folder that is most like this one."""
    path = Path(word).expanduser()
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError, RuntimeError):
        return None
    near = get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.parent / near[0]}?" if near else None


def _piped() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(
            "- stands for a picture that is piped in, and nothing is", hint="llavamed ask - ... < scan.png"
        )
    data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        raise PictureError(f"more than the {MAX_STDIN_BYTES // 2**30} GiB that are read", where=STDIN_TOLD)
    return data


def _open_bytes(data: bytes, shown: str, name: str, view: View) -> Picture:
    """Read a picture from memory as from a file of its own."""
    from llavamed_cli.model.images import read_picture

    with tempfile.TemporaryDirectory(prefix="llavamed-") as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        try:
            return read_picture(path, view)
        except LlavamedError as error:
            raise type(error)(error.what, where=shown, hint=error.hint) from error
