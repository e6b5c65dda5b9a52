"""A CLIP's view of a picture: how well its caption fits, and which modality it looks like. `--clip FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.model.clip import Clip, load_clip_model
from llavamed_cli.model.images import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

PAIRS_AT_ONCE = 16


@dataclass(frozen=True)
class ClipScore:
    """What a CLIP makes of one pair.

    similarity: the cosine of picture and caption, from -1 to 1. truncated: the caption was too long to be read whole.
    modality: the domain's that the picture is nearest to; share: its softmax among them all. None if it has none.
    """

    similarity: float
    truncated: bool
    modality: str | None = None
    share: float | None = None


class ClipScorer:
    """A loaded CLIP. Made by `load_clip`."""

    def __init__(self, clip: Clip, domain: Domain) -> None:
        self.device = clip.device
        self.truncated = 0
        self._clip = clip
        self._modalities = [modality.name for modality in domain.modalities]
        self._prompts = clip.texts([modality.phrase for modality in domain.modalities])[0]  # [modalities, width]

    def score(self, pairs: Sequence[tuple[Path, str]]) -> list[ClipScore]:
        """Score pairs of a picture and its caption. `truncated` counts the captions that were too long.

        Raises:
            PictureError: a picture cannot be opened.
        """
        scores: list[ClipScore] = []
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            part = pairs[start : start + PAIRS_AT_ONCE]
            scores.extend(self._score([open_picture(path) for path, _ in part], [caption for _, caption in part]))
        self.truncated += sum(score.truncated for score in scores)
        return scores

    def _score(self, pictures: list[Image], captions: list[str]) -> list[ClipScore]:
        seen = self._clip.pictures(pictures)  # [pairs, width]
        read, truncated = self._clip.texts(captions)
        similarities = (seen * read).sum(-1).clamp(-1, 1).tolist()
        if not self._modalities:
            return [ClipScore(*score) for score in zip(similarities, truncated, strict=True)]
        share, best = (values.tolist() for values in self._clip.shares(seen, self._prompts).max(-1))
        names = [self._modalities[index] for index in best]
        return [ClipScore(*score) for score in zip(similarities, truncated, names, share, strict=True)]


def load_clip(folder: Path, domain: Domain, *, device: str = "auto") -> ClipScorer:
    """Load a CLIP onto a device. `domain` gives the modalities to tell apart.

    Raises:
        ModelError: no CLIP in that folder, or one that lacks its tokenizer, its image settings or a tensor.
    """
    return ClipScorer(load_clip_model(folder, device=device), domain)
