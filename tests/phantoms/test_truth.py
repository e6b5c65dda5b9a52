"""A phantom is made by seed: always the same, its own split's alone, and its findings fit side by side."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest

from llavamed_cli.errors import UsageError
from llavamed_cli.phantoms import CITATION, Phantom, draw_phantoms

MANY = 2000


@pytest.fixture(scope="module")
def many() -> list[Phantom]:
    return list(draw_phantoms(MANY, split="train", seed=11))


def test_the_same_seed_makes_the_same_pictures() -> None:
    first, second = (list(draw_phantoms(4, split="train", seed=5)) for _ in range(2))
    assert [p.truth for p in first] == [p.truth for p in second]
    assert [p.picture.tobytes() for p in first] == [p.picture.tobytes() for p in second]


def test_a_phantom_does_not_depend_on_how_many_are_drawn() -> None:
    ten, hundred = (list(draw_phantoms(n, split="test", seed=5)) for n in (10, 100))
    assert ten == hundred[:10]
    assert ten[7].picture.tobytes() == hundred[7].picture.tobytes()


def test_splits_and_seeds_share_no_phantom() -> None:
    batches = [
        list(draw_phantoms(300, split=split, seed=seed)) for split in ("train", "test") for seed in (0, 1, 2**32)
    ]
    poses = [phantom.truth.pose for batch in batches for phantom in batch]
    assert len(set(poses)) == len(poses)
    train, test = (next(iter(draw_phantoms(1, split=split, seed=0))) for split in ("train", "test"))
    assert train.picture.tobytes() != test.picture.tobytes()


def test_ids_and_citation_say_that_it_is_a_phantom() -> None:
    assert [p.id for p in draw_phantoms(2, split="train", seed=0)] == ["phantom-train-00000", "phantom-train-00001"]
    assert "no patient" in CITATION


@pytest.mark.parametrize(("split", "seed"), [("validation", 0), ("train", -1)])
def test_what_cannot_be_drawn_is_refused(split: str, seed: int) -> None:
    with pytest.raises(UsageError):
        next(draw_phantoms(1, split=split, seed=seed))  # type: ignore[arg-type]


def test_truth_is_decided_by_fair_coins(many: list[Phantom]) -> None:
    kinds = Counter(p.kind for p in many)
    assert set(kinds) == {"chest-film", "ct", "mr", "histology"}
    assert all(abs(n - MANY / 4) < 5 * (MANY * 3 / 16) ** 0.5 for n in kinds.values())
    for name in ("mass", "cyst"):
        found = [f for p in many if (f := p.truth.finding(name)) is not None]
        assert_fair(len(found), MANY)
        for attribute, value in (("side", "left"), ("size", "large"), ("count", 2)):
            assert_fair(sum(getattr(f, attribute) == value for f in found), len(found))
    both = sum(len(p.truth.findings) == 2 for p in many)
    assert abs(both - MANY / 4) < 5 * (MANY * 3 / 16) ** 0.5


def test_findings_lie_on_their_side_inside_the_picture_and_do_not_touch(many: list[Phantom]) -> None:
    for phantom in many:
        for finding in phantom.truth.findings:
            for place in finding.places:
                # The patient's left is on the picture's right.
                assert (place.x - place.radius * 0.9 > phantom.truth.pose.x) == (finding.side == "left"), phantom.id
                assert place.radius <= min(place.x, place.y, 223 - place.x, 223 - place.y), phantom.id
                assert 2 * place.radius >= 224 / 8 if finding.size == "small" else 2 * place.radius >= 224 / 5.3
        places = [place for finding in phantom.truth.findings for place in finding.places]
        for a, b in combinations(places, 2):
            assert ((a.x - b.x) ** 2 + (a.y - b.y) ** 2) ** 0.5 >= a.radius + b.radius, phantom.id


def test_a_phantom_cannot_be_changed(many: list[Phantom]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        many[0].index = 1  # type: ignore[misc]


def test_importing_the_package_imports_no_numpy_and_no_pillow() -> None:
    code = "import sys, llavamed_cli.phantoms; sys.exit(bool({'numpy', 'PIL', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def assert_fair(heads: int, tosses: int) -> None:
    """Within 4.5 standard deviations of a fair coin: one false alarm in 150,000."""
    assert abs(heads - tosses / 2) < 4.5 * tosses**0.5 / 2, (heads, tosses)
