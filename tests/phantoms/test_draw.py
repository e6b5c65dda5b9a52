"""The truth against the pixels: a finding changes the picture where it is said to lie, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llavamed_cli.phantoms import Phantom, draw_phantoms

KINDS = ("chest-film", "ct", "mr", "histology")


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    """Five of each kind, each with two findings, both of them where it can be had."""
    drawn = list(draw_phantoms(400, split="test", seed=2))
    return [p for kind in KINDS for p in [p for p in drawn if p.kind == kind and len(p.truth.findings) == 2][:5]]


def pixels(phantom: Phantom) -> np.ndarray:
    return np.asarray(phantom.picture).astype(int)


def with_truth(phantom: Phantom, **changes: object) -> Phantom:
    return replace(phantom, truth=replace(phantom.truth, **changes))


def difference(a: Phantom, b: Phantom) -> np.ndarray:
    """The largest difference of any colour at each pixel, (224, 224)."""
    return np.abs(pixels(a) - pixels(b)).max(axis=2)


def components(mask: np.ndarray) -> list[np.ndarray]:
    """The 4-connected parts of a mask, each as an array of (y, x): a plain flood fill."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    parts = []
    while left:
        part, front = [], [left.pop()]
        while front:
            y, x = front.pop()
            part.append((y, x))
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left:
                    left.remove(near)
                    front.append(near)
        parts.append(np.array(part))
    return parts


def test_pictures_are_rgb_of_224_pixels_and_differ(phantoms: list[Phantom]) -> None:
    assert {(p.picture.mode, p.picture.size) for p in phantoms} == {("RGB", (224, 224))}
    assert len({p.picture.tobytes() for p in phantoms}) == len(phantoms) == 20


def test_a_finding_changes_the_pixels_inside_its_circles_and_no_others(phantoms: list[Phantom]) -> None:
    y, x = np.mgrid[0:224, 0:224]
    for phantom in phantoms:
        for finding in phantom.truth.findings:
            others = tuple(other for other in phantom.truth.findings if other is not finding)
            changed = difference(phantom, with_truth(phantom, findings=others)) > 0
            circles = np.zeros((224, 224), dtype=bool)
            for place in finding.places:
                circles |= (x - place.x) ** 2 + (y - place.y) ** 2 <= place.radius**2
            assert not (changed & ~circles).any(), (phantom.id, finding.name)


def test_side_size_and_count_can_be_read_off_the_pixels(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        for finding in phantom.truth.findings:
            others = tuple(other for other in phantom.truth.findings if other is not finding)
            changed = difference(phantom, with_truth(phantom, findings=others)) > 12
            parts = [part for part in components(changed) if len(part) > 60]
            assert len(parts) == finding.count, (phantom.id, finding)
            for part in parts:
                on_the_right_of_the_picture = part[:, 1].mean() > phantom.truth.pose.x
                assert on_the_right_of_the_picture == (finding.side == "left"), (phantom.id, finding)
                width = part[:, 1].max() - part[:, 1].min() + 1
                assert (width > 36) == (finding.size == "large"), (phantom.id, finding, width)


def test_moving_a_finding_to_the_other_side_mirrors_it(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        middle = phantom.truth.pose.x
        cyst = phantom.truth.finding("cyst")
        assert cyst is not None
        here = replace(cyst, places=tuple(replace(p, x=round(p.x - middle) + 112.0) for p in cyst.places))
        there = replace(here, places=tuple(replace(p, x=223 - p.x) for p in here.places))
        empty = with_truth(phantom, findings=())
        a = difference(with_truth(phantom, findings=(here,)), empty) > 0
        b = difference(with_truth(phantom, findings=(there,)), empty) > 0
        # The anatomy beneath is not symmetric to the pixel; where the paint is laid is.
        assert (a != b[:, ::-1]).mean() < 0.01, phantom.id


def test_mass_and_cyst_look_different_and_stand_out_at_64_pixels(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        small = np.asarray(phantom.picture.resize((64, 64)).convert("L"), dtype=float)
        levels = {}
        for finding in phantom.truth.findings:
            centres = [(round(p.y * 64 / 224 - 0.5), round(p.x * 64 / 224 - 0.5)) for p in finding.places]
            levels[finding.name] = [small[y - 1 : y + 2, x - 1 : x + 2].mean() for y, x in centres]
        for mass in levels["mass"]:
            for cyst in levels["cyst"]:
                assert mass - cyst > 150, phantom.id


def test_the_scale_bar_is_drawn_when_it_is_true_and_covers_no_finding(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        changed = difference(with_truth(phantom, scale_bar=True), with_truth(phantom, scale_bar=False)) > 0
        ys, xs = np.nonzero(changed)
        assert (xs.max(), ys.min() >= 79, ys.max() <= 144) == (9, True, True)
        bare = with_truth(phantom, findings=(), scale_bar=False)
        found = difference(with_truth(phantom, scale_bar=False), bare) > 0
        assert not (found & changed).any(), phantom.id
