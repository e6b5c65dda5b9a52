"""Which modality a picture is of, by the domain's words in its caption and mentions, with the words as evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llavamed_cli.corpus.domain import Domain

CAPTION_WEIGHT = 3
"""A caption's words count threefold: a mention often speaks of other pictures too."""


@dataclass(frozen=True)
class ModalityFound:
    """name: as the domain has it. evidence: the words that say so.

    clear: the caption names no other modality, and no chart, which may be about pictures without being one.
    """

    name: str
    evidence: tuple[str, ...]
    clear: bool


def find_modality(caption: str, mentions: Sequence[str], domain: Domain) -> ModalityFound | None:
    """The modality with most words in caption and mentions; of equals, the domain's first. None if none is named."""
    best: tuple[int, str, tuple[str, ...]] | None = None
    named_in_caption = set()
    for modality in domain.modalities:
        in_caption = modality.found(caption)
        in_mentions = [word for text in mentions for word in modality.found(text)]
        if in_caption:
            named_in_caption.add(modality.name)
        weight = CAPTION_WEIGHT * len(in_caption) + len(in_mentions)
        if weight and (best is None or weight > best[0]):
            best = (weight, modality.name, tuple(dict.fromkeys([*in_caption, *in_mentions])))
    if best is None:
        return None
    clear = named_in_caption <= {best[1]} and not domain.words["chart"].count(caption)
    return ModalityFound(name=best[1], evidence=best[2], clear=clear)
