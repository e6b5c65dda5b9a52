"""Which figures are kept, and why the others are not: cheap checks before dear ones, each with its reason.

Stages in order: read (the record itself), metadata, caption, header, pixels, duplicate, selection, teacher. Text is
screened first, so that a cloud source fetches no picture in vain; pixels are read once, when all text has passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llavamed_cli.corpus import build_options
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.pictures import Drawing, keep_drawing, keep_picture, picture_size
from llavamed_cli.corpus.screening.captions import CaptionQuality, find_chart, score_caption, word_count
from llavamed_cli.corpus.screening.gutters import Box, find_gutters
from llavamed_cli.corpus.screening.license_policy import ANY_LICENSE, LicensePolicy
from llavamed_cli.corpus.screening.modality import ModalityFound, find_modality
from llavamed_cli.corpus.screening.panels import Panels, find_panels, split_panels
from llavamed_cli.corpus.screening.picture_hash import hash_picture
from llavamed_cli.errors import PictureError
from llavamed_cli.files import file_sha256
from llavamed_cli.model.images import open_picture
from llavamed_cli.records import Fault, Figure, Source

if TYPE_CHECKING:
    from PIL.Image import Image

    from llavamed_cli.corpus.batches import Batch

MIN_WORDS = 3
MAX_CHARACTERS = 20_000
"""The longest caption of the 135 PMC articles tried has 3,960."""
MIN_SIDE = 32
"""Pixels. Below it a picture is an icon: two patches of 14 pixels wide."""

Stage = Literal["read", "metadata", "caption", "header", "pixels", "duplicate", "selection", "teacher", "turn"]


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A record that was set aside. reason: one of few, to count by. detail: what is particular to this one.

    picture: where its picture lies, if it is at hand, and caption: for the report.
    """

    id: str | None
    stage: Stage
    reason: str
    where: str
    detail: str | None = None
    picture: Path | None = None
    caption: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as it stands in rejected.jsonl."""
        told = ("id", "stage", "reason", "where", "detail")
        return {name: value for name in told if (value := getattr(self, name)) is not None}


def unreadable(fault: Fault) -> Rejection:
    """A record that could not be read, as screening sets it aside."""
    return Rejection(
        id=fault.record_id, stage="read", reason="unreadable record", where=fault.where, detail=fault.reason
    )


@dataclass(frozen=True, kw_only=True)
class ScreeningRules:
    """What is kept, for every source alike.

    modalities: None for all. clip: whether a CLIP looks at the pictures afterwards, which may tell a modality that the
    text does not.
    """

    domain: Domain
    licenses: LicensePolicy = ANY_LICENSE
    min_quality: float = 0.0
    charts: build_options.Charts = "drop"
    panels: build_options.Panels = "keep"
    modalities: frozenset[str] | None = None
    clip: bool = False

    def wants(self, modality: ModalityFound | None) -> bool:
        """Whether a figure of which the text tells this much may be of a wanted modality."""
        if self.modalities is None:
            return True
        return self.clip if modality is None else modality.name in self.modalities


@dataclass(frozen=True)
class Screened:
    """A figure whose text passed, with what was found out about it."""

    figure: Figure
    quality: CaptionQuality
    modality: ModalityFound | None
    panels: Panels


def screen_batch(batch: Batch, rules: ScreeningRules, staged: Path) -> list[Candidate | Rejection]:
    """Read and screen a batch; pictures that pass are put aside in `staged`, under the names they will bear."""
    outcomes: list[Candidate | Rejection] = []
    for item in batch.read():
        screened = item if isinstance(item, Rejection) else screen_text(item, rules)
        if isinstance(screened, Rejection):
            outcomes.append(screened)
        else:
            outcomes.extend(screen_picture(screened, rules, staged))
    return outcomes


def screen_text(figure: Figure, rules: ScreeningRules) -> Screened | Rejection:
    """Pass a figure through what can be told without its picture; the first fault gives the reason."""
    domain = rules.domain
    if figure.remote is None and not figure.picture.is_file():
        return reject(figure, "metadata", "no picture file", f"{figure.picture.name} is not there")
    if not rules.licenses.accepts(figure.source.license):
        return reject(figure, "metadata", "licence not accepted", figure.source.license or "none is stated")
    if len(figure.caption) > MAX_CHARACTERS:
        detail = f"{len(figure.caption):,} characters, at most {MAX_CHARACTERS:,} read"
        return reject(figure, "caption", "caption too long", detail)
    words = word_count(figure.caption)
    if words < MIN_WORDS:
        reason = "caption too short" if words else "no caption"
        return reject(figure, "caption", reason, f"{words} word(s), at least {MIN_WORDS} wanted")
    quality = score_caption(figure.caption, domain)
    if quality.score < rules.min_quality:
        lowering = ", ".join(f"{name} {part:+.2f}" for name, part in quality.parts.items() if part)
        detail = f"{quality.score:.2f}: {lowering}"
        return reject(figure, "caption", f"caption quality below {rules.min_quality:g}", detail)
    modality = find_modality(figure.caption, figure.mentions, domain, article=figure.source.citation)
    if rules.charts == "drop" and (chart := find_chart(figure.caption, domain)):
        return reject(figure, "caption", "chart or schematic", ", ".join(chart))
    panels = find_panels(figure.caption)
    if rules.panels == "drop" and panels.labels:
        return reject(figure, "caption", "several panels by its caption", ", ".join(panels.labels))
    if not rules.wants(modality):
        return reject(figure, "caption", "modality not wanted", modality.name if modality else "none is told")
    return Screened(figure, quality, modality, panels)


def screen_picture(screened: Screened, rules: ScreeningRules, staged: Path) -> Iterator[Candidate | Rejection]:
    """Look at the picture of a figure whose text passed: its header, then its pixels."""
    figure = screened.figure
    try:
        size = picture_size(figure.picture)
    except PictureError as error:
        yield reject(figure, "header", "unreadable picture", f"{figure.picture.name}: {error.what}")
        return
    if size is not None and min(size) < MIN_SIDE:
        detail = f"{figure.picture.name}: {size[0]} x {size[1]} pixels, each side at least {MIN_SIDE} wanted"
        yield reject(figure, "header", "picture too small", detail)
        return
    try:
        name = keep_picture(figure.picture, Path(figure.id).name, staged)
    except PictureError as error:
        yield reject(figure, "pixels", "unreadable picture", f"{figure.picture.name}: {error.what}")
        return
    picture = open_picture(staged / name)
    boxes = [] if rules.panels == "keep" else find_gutters(picture)
    if rules.panels == "drop" and len(boxes) > 1:
        yield reject(figure, "pixels", "several panels by its picture", f"{len(boxes)} panels")
    elif rules.panels == "split" and (len(boxes) > 1 or screened.panels.labels):
        yield from _split(screened, picture, boxes, rules, staged / name)
    else:
        yield _candidate(screened, staged / name, picture, panels=len(screened.panels.labels))


def _split(
    screened: Screened, picture: Image, boxes: list[Box], rules: ScreeningRules, file: Path
) -> Iterator[Candidate | Rejection]:
    """Every panel as a figure of its own, where caption and picture agree on how many there are; else none."""
    figure = screened.figure
    parts = split_panels(picture, boxes, screened.panels)
    if parts is None:
        detail = f"{len(screened.panels.labels)} by its caption, {len(boxes)} by its picture"
        yield reject(figure, "pixels", "panels that cannot be told apart", detail)
        return
    for panel, part in parts:
        told = replace(figure.source, figure=f"{figure.source.figure or figure.label or figure.id} {panel.label}")
        alone = replace(figure, id=f"{figure.id}-{panel.label}", caption=panel.text, source=told)
        read = screen_text(alone, rules)
        if isinstance(read, Rejection):
            yield read
        elif min(part.size) < MIN_SIDE:
            yield reject(alone, "pixels", "panel too small", f"{part.width} x {part.height} pixels")
        else:
            name = keep_drawing(Drawing(f"{file.stem}-{panel.label}", part.copy), file.parent)
            yield _candidate(read, file.parent / name, part, panels=0)


def _candidate(screened: Screened, file: Path, picture: Image, *, panels: int) -> Candidate:
    return Candidate(
        figure=replace(screened.figure, picture=file, remote=None),
        image=file.name,
        sha256=file_sha256(file),
        quality=screened.quality,
        modality=screened.modality,
        panels=panels,
        picture_hash=hash_picture(picture),
    )


def reject(figure: Figure, stage: Stage, reason: str, detail: str | None = None) -> Rejection:
    """A figure set aside at a stage."""
    return Rejection(
        id=figure.id,
        stage=stage,
        reason=reason,
        where=place(figure.source, str(figure.picture)),
        detail=detail,
        picture=figure.picture,
        caption=figure.caption,
    )


def place(source: Source, picture: str) -> str:
    """Where a record was read: `file:line`, or its picture where it has no file of its own."""
    if source.file is None:
        return picture
    return source.file if source.line is None else f"{source.file}:{source.line}"
