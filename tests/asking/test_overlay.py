"""The overlay as a file: colours where the effect is, words that name the method, and nothing else."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy
import pytest
from PIL import Image

from llavamed_cli.asking.evidence import LIMITS, Evidence, PictureMap
from llavamed_cli.asking.overlay import verdict, write_overlay
from llavamed_cli.asking.placement import Placement

GREY = Image.new("RGB", (200, 100), (110, 110, 110))


def evidence(effect: numpy.ndarray, *, whole: float = 3.0, place: Placement | None = None, **words: str) -> Evidence:
    shows = numpy.isfinite(effect)
    place = place or Placement(0, -50, 200, 150, (200, 100), shows)
    said = {"question": "Is there a mass?", "answer": "yes", **words}
    return Evidence(said["question"], said["answer"], 4.0, (PictureMap(effect.astype(numpy.float32), place, whole),))


def padded(left: float = 0.0, right: float = 0.0) -> numpy.ndarray:
    """Over a view of 64 x 64 that shows a picture twice as wide as high."""
    effect = numpy.full((64, 64), numpy.nan)
    effect[16:48, :32], effect[16:48, 32:] = left, right
    return effect


def drawn(one: Evidence, folder: Path, *pictures: Image.Image) -> numpy.ndarray:
    write_overlay(pictures or [GREY], one, folder / "map.png")
    assert [file.name for file in folder.iterdir()] == ["map.png"]
    with Image.open(folder / "map.png") as picture:
        return numpy.asarray(picture.convert("RGB")).astype(int)


def columns_of(pixels: numpy.ndarray, colour: str) -> numpy.ndarray:
    """Where across the map's panel, 0 to 1, a colour stands out of the grey. The legend is to the right of it."""
    red, blue = pixels[..., 0], pixels[..., 2]
    strong = red - blue > 60 if colour == "orange" else blue - red > 60
    panel = strong[:, pixels.shape[1] // 2 - 20 : round(pixels.shape[1] * 0.87)]
    found: numpy.ndarray = numpy.flatnonzero(panel.sum(0) > 100)
    return found / panel.shape[1]


def test_orange_speaks_for_and_blue_against_where_they_lie(tmp_path: Path) -> None:
    pixels = drawn(evidence(padded(left=5.0, right=-5.0)), tmp_path)
    orange, blue = columns_of(pixels, "orange"), columns_of(pixels, "blue")
    assert orange.mean() == pytest.approx(0.25, abs=0.08) and blue.mean() == pytest.approx(0.75, abs=0.08)
    assert orange.max() < blue.min() + 0.05


@pytest.mark.parametrize("effect", [0.0, 0.2, -0.2])
def test_what_is_faint_is_not_stretched_until_it_shows(tmp_path: Path, effect: float) -> None:
    pixels = drawn(evidence(padded(effect, effect)), tmp_path)
    assert not len(columns_of(pixels, "orange")) and not len(columns_of(pixels, "blue"))


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    drawn(evidence(padded(2.0), answer="Ja, 病灶 für $5"), tmp_path)
    with Image.open(tmp_path / "map.png") as picture:
        text: dict[str, str] = picture.text  # type: ignore[attr-defined]
    assert text["Description"].startswith("Occlusion") and LIMITS in text["Description"]
    assert "not a medical device" in text["Disclaimer"]
    figures = json.loads(text["llavamed"])
    assert (figures["method"], figures["answer"]) == ("occlusion", "Ja, 病灶 für $5")
    (one,) = figures["pictures"]
    assert one["size"] == [200, 100] and one["seen"] == [0, 0, 200, 100] and one["view"] == [0, -50, 200, 150]
    assert one["map"][0] == [None] * 12 and one["map"][6] == [2.0] * 5 + [pytest.approx(1.0, abs=0.7)] + [0.0] * 6
    assert set(text) == {"Title", "Description", "Disclaimer", "Software", "llavamed"}


def test_what_was_cropped_away_is_hatched_and_named(tmp_path: Path) -> None:
    place = Placement(50, 0, 150, 100, (200, 100), numpy.ones((64, 64), dtype=bool))
    assert place.cropped
    pixels = drawn(evidence(numpy.zeros((64, 64)), place=place), tmp_path)
    below_title = pixels[pixels.shape[0] // 5 : pixels.shape[0] // 2]
    width = pixels.shape[1]
    cut = below_title[:, round(width * 0.47) : round(width * 0.55)]
    kept = below_title[:, round(width * 0.60) : round(width * 0.70)]
    assert numpy.ptp(cut) > 60 and cut.mean() < kept.mean() - 20 and numpy.ptp(kept) < 10


@pytest.mark.parametrize("size", [(200, 100), (100, 400), (1600, 50), (4, 4), (9000, 5), (6000, 6000)])
def test_any_shape_of_picture_and_any_words(tmp_path: Path, size: tuple[int, int]) -> None:
    place = Placement(0, 0, *size, size, numpy.ones((64, 64), dtype=bool))
    words = {"question": "What does \\frac{1}{0} $ cost? " * 40, "answer": "病灶\n" * 50 + "_^{"}
    pixels = drawn(evidence(numpy.full((64, 64), -300.0), place=place, **words), tmp_path, Image.new("RGB", size))
    assert min(pixels.shape[:2]) > 300 and max(pixels.shape[:2]) < 3000


def test_two_pictures_stand_below_each_other(tmp_path: Path) -> None:
    one = evidence(padded(2.0))
    both = Evidence("What changed?", "nothing", 1.0, one.maps * 2)
    assert drawn(both, tmp_path, GREY, GREY).shape[0] > drawn(one, tmp_path).shape[0] + 200


def test_of_two_pictures_the_verdict_tells_each() -> None:
    one, other = evidence(padded(2.0), whole=math.log(40)).maps[0], evidence(padded(0.0), whole=0.0).maps[0]
    said = verdict(Evidence("What changed?", "nothing", 1.0, (one, other)))
    assert "with picture 1, 40 times higher than without it; picture 2, about the same as without it" in said


def test_the_same_evidence_gives_the_same_file(tmp_path: Path) -> None:
    first = drawn(evidence(padded(2.0)), tmp_path)
    data = (tmp_path / "map.png").read_bytes()
    assert numpy.array_equal(drawn(evidence(padded(2.0)), tmp_path), first)
    assert (tmp_path / "map.png").read_bytes() == data


@pytest.mark.parametrize(
    ("strongest", "whole", "said"),
    [
        (0.1, 0.1, "does not rest on the picture"),
        (0.1, math.log(40), "40 times higher than without it. No single part"),
        (3.0, math.log(2), "are 2 times higher"),
        (3.0, -math.log(3000), "3,000 times lower"),
        (3.0, 0.0, "about the same as without it"),
        (3.0, 18.4, "10^8 times higher"),
    ],
)
def test_the_verdict_says_what_the_figures_say(strongest: float, whole: float, said: str) -> None:
    assert said in verdict(evidence(padded(strongest), whole=whole))
