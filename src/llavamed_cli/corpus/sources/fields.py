"""What the fields of a record mean, however a data set writes them: caption, licence, sentences, picture."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.screening.licenses import normalise_license
from llavamed_cli.corpus.sentences import split_sentences
from llavamed_cli.errors import DataError

IMAGE_KEYS = ("image", "file_name")
CAPTION_KEYS = ("caption", "text")
CAPTION_PARTS = (*CAPTION_KEYS, "raw", "en")
"""Where a caption lies in a record of its own, as in COCO's annotations ("caption") and Karpathy's ("raw")."""
DEEPEST = 4


def one_caption(value: Any, depth: int = 0) -> str:
    """The caption in a text, a list of texts (the first that is not empty) or a record of them; "" if there is none.

    Raises:
        DataError: anything else.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return " ".join(value.split())
    if depth < DEEPEST and isinstance(value, list):
        return next((text for item in value if (text := one_caption(item, depth + 1))), "")
    if depth < DEEPEST and isinstance(value, Mapping):
        named = [value[name] for name in CAPTION_PARTS if name in value]
        return one_caption(named or [item for item in value.values() if isinstance(item, str)], depth + 1)
    raise DataError(f"a caption must be text, found {type(value).__name__}")


def license_name(value: Any) -> str | None:
    """A licence by its common name, else as it is written. Raises DataError if it is no text."""
    if value is not None and not isinstance(value, str):
        raise DataError(f"`license` must be text, found {type(value).__name__}")
    return (normalise_license(value) or " ".join(value.split()) or None) if value else None


def sentences(value: Any) -> tuple[str, ...]:
    """`mentions`: a list of sentences, or one text that is split into them. Raises DataError."""
    if value is None:
        return ()
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise DataError("`mentions` must be a text or a list of texts")
    return tuple(sentence for text in texts for sentence in split_sentences(" ".join(text.split())))


def record_name(value: Any) -> str | None:
    """An `id`, if there is one."""
    return None if value in (None, "") else str(value)


def picture_inside(images: Path, name: str) -> Path:
    """The picture a record names, which must lie in `images`: data from elsewhere must not reach other files.

    Links are followed, as the caches of hub clients need: a data file cannot make them. Raises DataError.
    """
    if "\0" in name:
        raise DataError("the picture's name holds a zero byte")
    path = Path(os.path.normpath(images / name.strip()))
    if not path.is_relative_to(os.path.normpath(images)):
        raise DataError(f"picture {name!r} lies outside {images}: give the folder that holds it as --images")
    return path
