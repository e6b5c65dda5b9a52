"""What flows between the rooms of the house, as frozen dataclasses; no behaviour lives here.

A figure is found in an article, written about as a sample, asked about as a question, and answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

IMAGE_MARKER = "<image>"
"""Stands in a turn's text where a picture belongs (LLaVA's data format)."""

Speaker = Literal["human", "gpt"]
AnswerType = Literal["open", "closed"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a record came from. What is unknown is None.

    kind: "pairs", "jats", "pmc", "hub", "phantoms", or a benchmark's name ("vqa-rad", "slake" ...).
    file, line: the file it was read from, and the line (1-based) where that means something.
    license: as the article or the data set names it, e.g. "CC BY".
    """

    kind: str
    file: str | None = None
    line: int | None = None
    pmcid: str | None = None
    version: int | None = None
    figure: str | None = None
    license: str | None = None
    citation: str | None = None


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of the PMC Cloud Service. key: its name in the bucket. md5: of its bytes, in hex, where it is known."""

    key: str
    md5: str | None = None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture, its caption, and the sentences that mention it.

    remote: where the picture comes from, if it must be fetched before it lies at `picture`.
    """

    id: str
    picture: Path
    caption: str
    source: Source
    label: str | None = None
    mentions: tuple[str, ...] = ()
    remote: RemoteFile | None = None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One speaker's text in a conversation. `<image>` in it stands for a picture."""

    speaker: Speaker
    text: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A conversation about pictures, to learn from.

    images: file names relative to the data folder's `images/`, in the order of the `<image>` markers.
    turns: human and gpt in turn, human first, gpt last.
    """

    id: str
    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    modality: str | None = None
    quality: float | None = None
    source: Source | None = None


@dataclass(frozen=True, kw_only=True)
class FigureText:
    """What an article says of a figure: what a judge of answers reads, for it does not see the picture.

    label: "Figure 3"; mentions: the sentences that cite the figure.
    """

    label: str
    caption: str
    mentions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a picture with its reference answer.

    image: the picture's name as the benchmark gives it; picture: where it lies.
    question_types: the benchmark's own types, normalised, e.g. ("POS", "PRES").
    phrasing: "freeform", or "para" for a question that says another one in other words (VQA-RAD).
    split: the part of the benchmark it stands in, as far as that is known.
    fact: what is asked for beyond the picture, as a knowledge graph has it: subject, relation, object (SLAKE).
    figure: where a judge compares the answer with the reference, instead of a match of words: what it reads.
    choices: the answers that a multiple-choice question lists, in order.
    """

    id: str
    image: str
    picture: Path
    text: str
    answer: str
    answer_type: AnswerType
    question_types: tuple[str, ...] = ()
    modality: str | None = None
    organ: str | None = None
    phrasing: str | None = None
    language: str = "en"
    split: str | None = None
    fact: tuple[str, str, str] | None = None
    figure: FigureText | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What someone answered. confidence: geometric mean of the answer tokens' probabilities, 0 to 1."""

    question_id: str
    text: str
    confidence: float | None = None


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A record that was set aside: where it stands, which one it is, and why."""

    where: str
    reason: str
    record_id: str | None = None

    def __str__(self) -> str:
        name = f" ({self.record_id})" if self.record_id is not None else ""
        return f"{self.where}{name}: {self.reason}"
