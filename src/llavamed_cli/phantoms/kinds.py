"""The four kinds of phantom: the words that name them and the places where a finding fits.

All kinds share one small vocabulary of findings, so a question about a finding never says what kind of picture it is
about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KindName = Literal["chest-film", "ct", "mr", "histology"]
FindingName = Literal["mass", "cyst"]

SIDE_PIXELS = 224
"""Width and height of every phantom, in pixels."""

FINDING_NAMES: tuple[FindingName, ...] = ("mass", "cyst")
PLURALS: dict[FindingName, str] = {"mass": "masses", "cyst": "cysts"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of picture.

    modality: the bare word, as in a record's `modality`.
    article, image: the noun in questions and captions, and its "a" or "an".
    organ, shown: what is imaged, as an answer ("brain") and inside a sentence ("the brain").
    slots: centres (x, y) in pixels from the middle of the anatomy where a finding on the patient's left may lie (x to
        the picture's right, y down); mirrored in x for the patient's right. They are at least 48 pixels apart.
    """

    name: KindName
    modality: str
    article: str
    image: str
    organ: str
    shown: str
    slots: tuple[tuple[float, float], ...]


KINDS: tuple[Kind, ...] = (
    Kind(
        name="chest-film",
        modality="X-ray",
        article="an",
        image="X-ray",
        organ="chest",
        shown="the chest",
        slots=((46, -72), (50, -24), (54, 24), (54, 72)),
    ),
    Kind(
        name="ct",
        modality="CT",
        article="a",
        image="CT scan",
        organ="abdomen",
        shown="the abdomen",
        slots=((25, -44), (25, 8), (70, -22), (70, 26)),
    ),
    Kind(
        name="mr",
        modality="MRI",
        article="an",
        image="MRI scan",
        organ="brain",
        shown="the brain",
        slots=((24, -64), (58, -24), (58, 24), (24, 64)),
    ),
    Kind(
        name="histology",
        modality="histology",
        article="a",
        image="histology slide",
        organ="tissue",
        shown="tissue",
        slots=((28, -56), (77, -56), (28, 56), (77, 56)),
    ),
)
