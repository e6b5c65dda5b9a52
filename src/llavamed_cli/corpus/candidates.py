"""A figure that passed screening: what the duplicates' search, the selection and the teachers look at.

Candidates are spooled as JSON Lines between screening and teaching, so that memory holds one at a time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.screening.captions import CaptionQuality
from llavamed_cli.corpus.screening.modality import ModalityFound
from llavamed_cli.corpus.screening.picture_hash import PictureHash
from llavamed_cli.records import Figure, Source


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A screened figure.

    figure: its picture is the staged copy. image: the picture's name in `images/`. sha256: of the picture's bytes.
    panels: the sub-panels that caption or picture show, 0 where it is one plain picture. similarity: of caption and
    picture by a CLIP, a cosine, where one was asked. picture_hash: for the search of duplicates, not spooled.
    """

    figure: Figure
    image: str
    sha256: str
    quality: CaptionQuality
    modality: ModalityFound | None = None
    panels: int = 0
    similarity: float | None = None
    picture_hash: PictureHash = ()

    @property
    def key(self) -> str:
        """A name of its own: ids may occur twice in people's files, but no two candidates show the same bytes."""
        return f"{self.figure.id}/{self.sha256}"

    def to_json(self) -> dict[str, Any]:
        """A record that `candidate_from_json` reads back."""
        record = asdict(self)
        record["figure"]["picture"] = str(self.figure.picture)
        del record["figure"]["remote"], record["picture_hash"]
        return record


def candidate_from_json(record: dict[str, Any]) -> Candidate:
    """The candidate that `to_json` wrote."""
    figure = record["figure"]
    modality = record["modality"]
    return Candidate(
        figure=Figure(
            id=figure["id"],
            picture=Path(figure["picture"]),
            caption=figure["caption"],
            source=Source(**figure["source"]),
            label=figure["label"],
            mentions=tuple(figure["mentions"]),
        ),
        image=record["image"],
        sha256=record["sha256"],
        quality=CaptionQuality(**record["quality"]),
        modality=ModalityFound(modality["name"], tuple(modality["evidence"]), modality["clear"]) if modality else None,
        panels=record["panels"],
        similarity=record["similarity"],
    )
