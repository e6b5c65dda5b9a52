"""Which figures are kept, and why the others are not: cheap checks before dear ones, each with its reason.

Stages in order: read (the record itself), metadata, caption, header, pixels, teacher. Pixels are read once, by
`pictures.keep_picture`, when all else has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from llavamed_cli.corpus.captions import CaptionQuality, score_caption, word_count
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.modality import ModalityFound, find_modality
from llavamed_cli.corpus.pictures import picture_size
from llavamed_cli.errors import PictureError
from llavamed_cli.records import Figure, Source

MIN_WORDS = 3
MAX_CHARACTERS = 20_000
"""The longest caption of the 135 PMC articles tried has 3,960."""
MIN_SIDE = 32
"""Pixels. Below it a picture is an icon: two patches of 14 pixels wide."""

Stage = Literal["read", "metadata", "caption", "header", "pixels", "duplicate", "teacher"]


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A record that was set aside. reason: one of few, to count by. detail: what is particular to this one."""

    id: str | None
    stage: Stage
    reason: str
    where: str
    detail: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in rejected.jsonl."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Screened:
    """A figure that passed, with what was found out about it."""

    figure: Figure
    quality: CaptionQuality
    modality: ModalityFound | None


def screen(figure: Figure, domain: Domain, min_quality: float) -> Screened | Rejection:
    """Pass a figure through every stage but pixels; the first that it fails gives the reason."""
    if not figure.picture.is_file():
        return _reject(figure, "metadata", "no picture file", f"{figure.picture.name} is not there")
    if len(figure.caption) > MAX_CHARACTERS:
        detail = f"{len(figure.caption):,} characters, at most {MAX_CHARACTERS:,} read"
        return _reject(figure, "caption", "caption too long", detail)
    words = word_count(figure.caption)
    if words < MIN_WORDS:
        reason = "caption too short" if words else "no caption"
        return _reject(figure, "caption", reason, f"{words} word(s), at least {MIN_WORDS} wanted")
    quality = score_caption(figure.caption, domain)
    if quality.score < min_quality:
        lowering = ", ".join(f"{name} {part:+.2f}" for name, part in quality.parts.items() if part)
        detail = f"{quality.score:.2f}: {lowering}"
        return _reject(figure, "caption", f"caption quality below {min_quality:g}", detail)
    try:
        size = picture_size(figure.picture)
    except PictureError as error:
        return _reject(figure, "header", "unreadable picture", f"{figure.picture.name}: {error.what}")
    if size is not None and min(size) < MIN_SIDE:
        detail = f"{figure.picture.name}: {size[0]} x {size[1]} pixels, each side at least {MIN_SIDE} wanted"
        return _reject(figure, "header", "picture too small", detail)
    return Screened(figure, quality, find_modality(figure.caption, figure.mentions, domain))


def _reject(figure: Figure, stage: Stage, reason: str, detail: str) -> Rejection:
    return Rejection(
        id=figure.id, stage=stage, reason=reason, where=place(figure.source, str(figure.picture)), detail=detail
    )


def place(source: Source, picture: str) -> str:
    """Where a record was read: `file:line`, or its picture where it has no file of its own."""
    if source.file is None:
        return picture
    return source.file if source.line is None else f"{source.file}:{source.line}"
