"""The stage that looks beyond one figure: what repeats an earlier one, what a benchmark tests on, what a CLIP thinks.

It runs in the main process, over figures in their order, so that "earlier" means the same whoever screened them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from llavamed_cli.corpus.build_options import ScreenOptions
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.screening.clip import ClipScore, ClipScorer, load_clip
from llavamed_cli.corpus.screening.deduplicate import By, Seen
from llavamed_cli.corpus.screening.exclude import Excluded, read_excluded
from llavamed_cli.corpus.screening.modality import ModalityFound
from llavamed_cli.corpus.screening.stages import Rejection, ScreeningRules, reject
from llavamed_cli.progress import Progress

CLIP_AT_ONCE = 64
SURE_SHARE = 0.5
"""Of a CLIP's belief, over all modalities of the domain: a picture whose text tells none is of one that has this."""
REASONS: dict[By, str] = {"bytes": "same bytes", "picture": "same picture", "caption": "same caption"}

Outcome = Candidate | Rejection


@dataclass
class Distinct:
    """Made by `open_distinct`. Any of the three may be absent."""

    rules: ScreeningRules
    seen: Seen | None
    excluded: Excluded | None
    clip: ClipScorer | None
    min_similarity: float | None
    _last_figure: tuple[str | None, ...] | None = None

    def sift(self, batches: Iterable[list[Outcome]]) -> Iterator[Outcome]:
        """Yield the outcomes of screening in their order, some candidates turned into rejections."""
        outcomes = (self._known(outcome) for outcome in chain.from_iterable(batches))
        if self.clip is None:
            yield from outcomes
            return
        while group := list(islice(outcomes, CLIP_AT_ONCE)):
            candidates = [outcome for outcome in group if isinstance(outcome, Candidate)]
            scores = iter(self.clip.score([(c.figure.picture, c.figure.caption) for c in candidates]))
            for outcome in group:
                yield outcome if isinstance(outcome, Rejection) else self._scored(outcome, next(scores))

    def _known(self, outcome: Outcome) -> Outcome:
        """The outcome, or why it is not to be used: a benchmark has it, or an earlier one is the same."""
        if isinstance(outcome, Rejection):
            return outcome
        if self.excluded and (tested := self.excluded.find(outcome.sha256, outcome.picture_hash)):
            return reject(outcome.figure, "duplicate", "picture of an excluded set", tested.id)
        if self.seen is None:
            return outcome
        caption = None if self._goes_on(outcome) else outcome.figure.caption
        earlier = self.seen.add(outcome.figure.id, outcome.sha256, outcome.picture_hash, caption)
        if earlier is None:
            return outcome
        bits = f", {earlier.bits} bits apart" if earlier.bits is not None else ""
        return reject(outcome.figure, "duplicate", REASONS[earlier.by], f"of {earlier.id}{bits}")

    def _goes_on(self, candidate: Candidate) -> bool:
        """Whether it belongs to the same figure as the one before it, and rightly has the same caption."""
        source = candidate.figure.source
        figure = (source.pmcid, source.file, source.figure) if source.figure else None
        goes_on = figure is not None and figure == self._last_figure
        self._last_figure = figure
        return goes_on

    def _scored(self, candidate: Candidate, score: ClipScore) -> Outcome:
        told = candidate.modality
        if told is None and score.modality is not None and (score.share or 0) >= SURE_SHARE:
            told = ModalityFound(score.modality, (f"CLIP {score.share:.2f}",), clear=False)
        candidate = replace(candidate, modality=told, similarity=round(score.similarity, 4))
        if self.min_similarity is not None and score.similarity < self.min_similarity:
            detail = f"{score.similarity:.3f}"
            return reject(candidate.figure, "pixels", f"caption and picture below {self.min_similarity:g}", detail)
        wanted = self.rules.modalities
        if wanted is not None and (told is None or told.name not in wanted):
            return reject(candidate.figure, "pixels", "modality not wanted", told.name if told else "none is told")
        return candidate


@contextmanager
def open_distinct(
    options: ScreenOptions, rules: ScreeningRules, scratch: Path, device: str, progress: Progress
) -> Iterator[Distinct]:
    """Read the excluded pictures, load the CLIP, and begin a memory of what was seen, as far as they are asked for.

    Raises:
        UsageError: an excluded folder without pictures. ModelError: no CLIP.
    """
    with ExitStack() as opened:
        excluded = None
        if options.exclude:
            excluded = opened.enter_context(read_excluded(options.exclude, scratch / "excluded.sqlite", progress))
            progress.note(f"{excluded.count} pictures are excluded")
        seen = opened.enter_context(Seen(scratch / "seen.sqlite")) if options.duplicates == "drop" else None
        clip = load_clip(options.clip, rules.domain, device=device) if options.clip else None
        yield Distinct(rules, seen, excluded, clip, options.min_similarity)
        if clip and clip.truncated:
            progress.note(f"{clip.truncated} captions were longer than the CLIP reads; it saw their beginnings")
