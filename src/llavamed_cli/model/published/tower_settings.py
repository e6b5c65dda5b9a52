"""What the JSON files beside a vision tower say: its config, and how a picture becomes its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llavamed_cli.errors import LlavamedError, ModelError
from llavamed_cli.files import read_json

Statistics = tuple[float, ...]

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's CLIP was trained with these; open_clip takes them where its config names none, and LLaVA-Med v1.0 with
BiomedCLIP."""

BYTE = 1 / 255
"""A byte of a picture becomes a number from 0 to 1 by this, in every tower that is read here."""


def read_settings(file: Path) -> dict[str, Any]:
    """A JSON file of settings by name.

    Raises:
        ModelError: it cannot be read as one.
    """
    try:
        found = read_json(file, "the settings file")
    except (LlavamedError, OSError) as error:
        raise ModelError(getattr(error, "what", str(error)), where=str(file)) from error
    if not isinstance(found, dict):
        raise ModelError("expected settings by name, found something else", where=str(file))
    return found


def image_settings(folder: Path) -> dict[str, Any]:
    """A folder's own image settings, in the file of transformers 4 or of 5; empty where it has none.

    Raises:
        ModelError: the file cannot be read, or pixels are scaled in a way of their own.
    """
    settings: Any = {}
    if (folder / "preprocessor_config.json").is_file():
        settings = read_settings(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():
        settings = read_settings(folder / "processor_config.json").get("image_processor")
    settings = settings if isinstance(settings, dict) else {}
    factor = settings.get("rescale_factor", BYTE)
    if factor != BYTE:
        raise ModelError(f"its pictures are scaled by {factor}, and not by 1/255", where=str(folder))
    return settings


def final_size(settings: Mapping[str, Any]) -> int | None:
    """The side of the square that image settings end with, in pixels."""
    size = settings.get("crop_size") or settings.get("size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return int(size) if size else None


def statistics(settings: Mapping[str, Any], name: str, default: Statistics, folder: Path) -> Statistics:
    """Three numbers that pixels are normalised by.

    Raises:
        ModelError: something else stands there.
    """
    found = settings.get(name)
    if found is None:
        return default
    numbers = [value for value in found if isinstance(value, (int, float))] if isinstance(found, list) else []
    if len(numbers) != 3:
        raise ModelError(f"{name} is {found!r}, expected three numbers", where=str(folder))
    return tuple(float(number) for number in numbers)


def side(value: Any, name: str, file: Path) -> int:
    """One side of a square that a config gives as a number or as two.

    Raises:
        ModelError: the two differ, or they are no numbers of pixels.
    """
    sides = set(value) if isinstance(value, (list, tuple)) else {value}
    only = sides.pop() if len(sides) == 1 else None
    if not isinstance(only, int) or only < 1:
        raise ModelError(f"{name} is {value!r}, expected a square of whole pixels", where=str(file))
    return only
