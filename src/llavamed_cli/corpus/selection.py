"""Which of the screened figures are used: an even draw over modalities, and the articles that are held out.

Both are decided by hashes of a record's own names and the seed, so that a figure's lot does not depend on the others'
order.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable

from llavamed_cli.corpus.candidates import Candidate


def draw_balanced(candidates: Iterable[tuple[str, str | None]], limit: int, seed: int) -> frozenset[str]:
    """Draw `limit` keys of (key, modality) in turn from every modality, in an order that the seed shuffles.

    A rare modality gives all it has and the others share what is left, as LLaVA-Med's generator drew (arXiv 2306.00890,
    released code). A figure whose modality is not told is never drawn.
    """
    piles: dict[str, list[tuple[bytes, str]]] = defaultdict(list)
    for key, modality in candidates:
        if modality is not None:
            piles[modality].append((_lot(f"{seed}/balance/{key}"), key))
    for pile in piles.values():
        pile.sort(reverse=True)
    drawn: set[str] = set()
    while len(drawn) < limit and any(piles.values()):
        for name in sorted(piles):
            if piles[name] and len(drawn) < limit:
                drawn.add(piles[name].pop()[1])
    return frozenset(drawn)


def is_held_out(candidate: Candidate, share: float, seed: int) -> bool:
    """Whether a figure belongs to the validation part: `share` of the articles, never half an article.

    Figures without an article go by their picture, so that one picture is never on both sides.
    """
    source = candidate.figure.source
    article = source.pmcid or (source.file if source.kind == "jats" else None) or candidate.sha256
    return int.from_bytes(_lot(f"{seed}/validation/{article}"), "big") < share * 2**64


def _lot(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
