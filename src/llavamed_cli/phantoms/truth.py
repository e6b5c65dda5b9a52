"""What a phantom shows, decided by fair coins before anything is drawn, and the one way to make phantoms.

Truth is cheap and drawing is not, so a phantom is its truth; its picture is drawn when it is first looked at.

Sides follow the radiological convention, in all four kinds alike: the patient's left is on the picture's right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from llavamed_cli.errors import UsageError
from llavamed_cli.phantoms.kinds import FINDING_NAMES, KINDS, SIDE_PIXELS, FindingName, Kind

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

CITATION = "phantom: drawn by code, no patient"

Split = Literal["train", "test"]
Side = Literal["left", "right"]
Size = Literal["small", "large"]

_SPLITS: tuple[Split, ...] = ("train", "test")
_STREAMS = ("truth", "questions", "anatomy", "findings", "noise")

SMALL_RADIUS = (15.0, 16.0)
LARGE_RADIUS = (21.5, 22.5)
"""Radii in pixels: a small finding is 1/7 of the picture wide, a large one 1/5; they stay visible at 64 x 64."""


@dataclass(frozen=True, kw_only=True)
class Disc:
    """The smallest circle around one drawn finding: centre and radius, in pixels of the picture."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A present finding: all its occurrences lie on one side and have one size; count is one or two."""

    name: FindingName
    side: Side
    size: Size
    places: tuple[Disc, ...]

    @property
    def count(self) -> int:
        return len(self.places)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the anatomy lies in the picture: its middle (pixels), its scale, and the gain of its brightness."""

    x: float
    y: float
    scale: float
    gain: float


@dataclass(frozen=True, kw_only=True)
class Truth:
    """All there is to know of a phantom. A finding that is not in `findings` is absent."""

    kind: Kind
    pose: Pose
    findings: tuple[Finding, ...]
    scale_bar: bool

    def finding(self, name: FindingName) -> Finding | None:
        """The finding of that name, or None where it is absent."""
        return next((finding for finding in self.findings if finding.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """A synthetic picture with its exact truth. seed, split and index say all: from them it can be made again."""

    seed: int
    split: Split
    index: int
    truth: Truth

    @property
    def id(self) -> str:
        return f"phantom-{self.split}-{self.index:05d}"

    @property
    def kind(self) -> str:
        return self.truth.kind.name

    @property
    def modality(self) -> str:
        return self.truth.kind.modality

    @cached_property
    def picture(self) -> Image.Image:
        """The picture: RGB, 224 x 224. Drawn when first asked for, then kept."""
        from llavamed_cli.phantoms.draw import draw

        return draw(self)

    def generator(self, stream: str) -> np.random.Generator:
        """A fresh random generator of this phantom's own, one for each purpose, so that none disturbs another."""
        return _generator(self.seed, self.split, self.index, stream)


def draw_phantoms(count: int, *, split: Split, seed: int) -> Iterator[Phantom]:
    """Yield `count` phantoms. Phantom i depends on seed, split and i alone, and no picture is in both splits.

    Raises:
        UsageError: a negative seed, or a split that is neither "train" nor "test".
    """
    if split not in _SPLITS:
        raise UsageError(f"phantoms have no split {split!r}", hint="Use train or test.")
    if seed < 0:
        raise UsageError(f"the seed of phantoms is {seed}; it must be 0 or more")
    for index in range(count):
        truth = _truth(_generator(seed, split, index, "truth"))
        yield Phantom(seed=seed, split=split, index=index, truth=truth)


def _generator(seed: int, split: Split, index: int, stream: str) -> np.random.Generator:
    import numpy as np

    key = (_SPLITS.index(split), index, _STREAMS.index(stream))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _truth(rng: np.random.Generator) -> Truth:
    kind = KINDS[rng.integers(len(KINDS))]
    middle = SIDE_PIXELS / 2
    pose = Pose(
        x=middle + rng.uniform(-5, 5),
        y=middle + rng.uniform(-4, 4),
        scale=rng.uniform(0.96, 1.02),
        gain=rng.uniform(0.9, 1.1),
    )
    findings: list[Finding] = []
    free: dict[Side, list[tuple[float, float]]] = {side: _shuffled(rng, kind) for side in ("left", "right")}
    for name in FINDING_NAMES:
        # Every coin is tossed, present or not: side, size, count and presence stay independent of each other.
        present, left, large, two = rng.random(4) < 0.5
        side: Side = "left" if left else "right"
        radii = LARGE_RADIUS if large else SMALL_RADIUS
        places = tuple(_place(rng, pose, side, free[side].pop(), rng.uniform(*radii)) for _ in range(1 + int(two)))
        if present:
            findings.append(Finding(name=name, side=side, size="large" if large else "small", places=places))
    return Truth(kind=kind, pose=pose, findings=tuple(findings), scale_bar=bool(rng.random() < 0.5))


def _shuffled(rng: np.random.Generator, kind: Kind) -> list[tuple[float, float]]:
    return [kind.slots[i] for i in rng.permutation(len(kind.slots))]


def _place(rng: np.random.Generator, pose: Pose, side: Side, slot: tuple[float, float], radius: float) -> Disc:
    # Slots are 48 apart, 46 at the smallest scale: what a radius leaves free of 22.5 may be moved without touching.
    slack = min(6.0, 22.5 - radius)
    x, y = slot
    toward = 1 if side == "left" else -1
    return Disc(
        x=pose.x + toward * pose.scale * x + rng.uniform(-slack, slack),
        y=pose.y + pose.scale * y + rng.uniform(-slack, slack),
        radius=radius,
    )
