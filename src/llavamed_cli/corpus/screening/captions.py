"""How good a caption is as a teacher of a picture: a sum of parts that can each be explained, from 0 to 1.

Caption quality limits what such data can teach, and no filter was published with LLaVA-Med (arXiv 2306.00890). The
weights are ours: chosen by reading a sample of the captions of 135 PMC articles, not fitted. The score orders
captions; it is no probability.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.screening.licenses import is_borrowed
from llavamed_cli.corpus.screening.modality import without_abbreviations
from llavamed_cli.corpus.screening.panels import find_panels
from llavamed_cli.corpus.sentences import split_sentences

FEW_WORDS, ENOUGH_WORDS, MANY_WORDS = 3, 15, 150
VISUAL_SHARE = 0.12
"""A caption of which every eighth word can be pointed at earns the whole visual part."""
TALK_SHARE = 0.08
"""Above this share of statistics and method words, the whole penalty."""
PANELS_PENALISED = 4
WEIGHTS = {"length": 0.4, "visual": 0.6, "statistics": -0.3, "chart": -0.4, "panels": -0.3, "borrowed": -0.2}

_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")


@dataclass(frozen=True)
class CaptionQuality:
    """score: 0 to 1, the sum of the parts held in that range. parts: what each weight came to, by name."""

    score: float
    parts: Mapping[str, float]


def word_count(text: str) -> int:
    """How many words a text has; "T2-weighted" is one."""
    return sum(1 for _ in _WORD.finditer(text))


def score_caption(caption: str, domain: Domain) -> CaptionQuality:
    """Score a caption by its words; `domain` says which are visual, which speak of charts, statistics and methods."""
    words = word_count(caption)
    share = {name: domain.words[name].count(caption) / max(words, 1) for name in ("visual", "statistics")}
    panels = len(find_panels(caption).labels)
    degrees = {
        "length": _length_degree(words),
        "visual": min(share["visual"] / VISUAL_SHARE, 1.0),
        "statistics": min(share["statistics"] / TALK_SHARE, 1.0),
        "chart": min(domain.words["chart"].count(caption), 2) / 2,
        "panels": min(max(panels - 1, 0) / PANELS_PENALISED, 1.0),
        "borrowed": float(is_borrowed(caption) or domain.words["borrowed"].count(caption) > 0),
    }
    parts = {name: round(WEIGHTS[name] * degree, 4) for name, degree in degrees.items()}
    return CaptionQuality(score=round(min(max(sum(parts.values()), 0.0), 1.0), 4), parts=parts)


def _length_degree(words: int) -> float:
    """0 up to 3 words, 1 from 15 to 150, then falling: a very long caption describes many things."""
    if words <= ENOUGH_WORDS:
        return max(words - FEW_WORDS, 0) / (ENOUGH_WORDS - FEW_WORDS)
    return min(1.0, MANY_WORDS / words)


def find_chart(caption: str, domain: Domain) -> tuple[str, ...]:
    """The words that say that most of a figure is drawn (charts, schemes, gels); none where they do not prevail.

    Heard panel by panel where the caption tells them apart, else sentence by sentence: a part with words for charts, or
    with several for statistics, against one with words for a modality.
    """
    told = without_abbreviations(caption)
    panels = find_panels(told)
    parts = [panels.lead, *(panel.text for panel in panels.texts)] if panels.texts else split_sentences(told)
    drawn: list[str] = []
    balance = 0.0
    for part in parts:
        chart, statistics = (domain.words[name].found(part) for name in ("chart", "statistics"))
        if chart:
            balance += 1
        elif any(modality.found(part) for modality in domain.modalities):
            balance -= 1
        elif any(modality.hinted(part) for modality in domain.modalities):
            balance -= 0.5
        else:
            balance += min(len(set(statistics)), 2) / 2
        drawn.extend(chart or statistics)
    return tuple(dict.fromkeys(drawn)) if balance > 0 else ()
