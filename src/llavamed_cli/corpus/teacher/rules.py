"""The offline teacher: picks sentences from the caption and the mentions and puts questions before them.

Honest about being simple: every answer is a sentence of the article, with references to figures and panels taken out,
so nothing is invented, and nothing is explained either. A sentence that speaks of the paper, of statistics or of a
chart, or that names nothing visible, is not used.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import Exchange
from llavamed_cli.corpus.screening.captions import word_count
from llavamed_cli.corpus.screening.modality import ModalityFound
from llavamed_cli.corpus.sentences import split_sentences
from llavamed_cli.corpus.teacher.prompts import text_shown
from llavamed_cli.corpus.teacher.references import clean_sentence
from llavamed_cli.records import Figure

SENTENCES_SHOWN, SENTENCES_MORE, SENTENCES_OF_CONTEXT = 2, 2, 1
FEWEST_WORDS, MOST_WORDS = 4, 60

_ABBREVIATIONS = re.compile(r"^\W*\S{1,12}\s?[,:=]\s[^;]+;\s\S{1,12}\s?[,:=]\s")
"""A list of abbreviations: "LA, left atrium; RA, right atrium"."""


def teach(figure: Figure, modality: ModalityFound | None, domain: Domain, rng: random.Random) -> tuple[Exchange, ...]:
    """Write a conversation about `figure`; empty where its text says nothing visible.

    The modality is asked only where the caption names no second one. Later answers never repeat an earlier sentence.
    """
    exchanges: list[Exchange] = []
    if modality is not None and modality.clear:
        known = domain.modality(modality.name)
        if known is not None:
            answer = domain.modality_answer.replace("{modality}", known.phrase)
            exchanges.append((rng.choice(domain.questions["modality"]), answer))
    caption, mentions = text_shown(figure)
    captions = _usable(split_sentences(caption), domain)
    shown, more = captions[:SENTENCES_SHOWN], captions[SENTENCES_SHOWN : SENTENCES_SHOWN + SENTENCES_MORE]
    context = [sentence for sentence in _usable(mentions, domain) if sentence not in captions]
    for topic, sentences in (("show", shown), ("more", more), ("context", context[:SENTENCES_OF_CONTEXT])):
        if sentences:
            exchanges.append((rng.choice(domain.questions[topic]), " ".join(sentences)))
    return tuple(exchanges)


def _usable(sentences: Iterable[str], domain: Domain) -> list[str]:
    cleaned = (clean_sentence(sentence) for sentence in sentences)
    return list(dict.fromkeys(sentence for sentence in cleaned if _is_usable(sentence, domain)))


def _is_usable(sentence: str, domain: Domain) -> bool:
    if not FEWEST_WORDS <= word_count(sentence) <= MOST_WORDS or domain.words["visual"].count(sentence) == 0:
        return False
    if _ABBREVIATIONS.match(sentence) or sentence.count("(") != sentence.count(")"):
        return False
    return not any(domain.words[name].count(sentence) for name in ("paper", "statistics", "chart", "borrowed"))
