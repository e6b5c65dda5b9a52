"""A map points at what its answer hangs on, whatever was done to the picture; other weights give another map."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

from llavamed_cli.asking.evidence import Evidence, PictureMap, evidence_map
from llavamed_cli.asking.overlay import verdict
from llavamed_cli.errors import UsageError
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.records import Turn

WAYS: dict[str, dict[str, Any]] = {
    "pad": {},
    "crop": {"do_pad": False},
    "stretch": {"do_pad": False, "do_center_crop": False, "size": {"height": 64, "width": 64}},
}
ANSWER = 7
"""The token whose probability the models below let hang on what they see."""


def noise(width: int, height: int) -> Image.Image:
    values = numpy.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=numpy.uint8)
    return Image.fromarray(values)


def asked(*pictures: Image.Image, question: str = "Is there a mass?") -> Prompt:
    return Prompt((Turn(speaker="human", text="<image>\n" * len(pictures) + question),), pictures)


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model), device="cpu", precision="fp32")


def seeing(loaded: LoadedModel, way: str, logit: Callable[[torch.Tensor], torch.Tensor]) -> LoadedModel:
    """A model without weights. logit: of ANSWER, [rows], by pixels [rows, pictures, 3, H, W]; all others are 0."""
    real: Any = loaded.model
    processor: Any = copy.deepcopy(loaded.processor)
    images = processor.image_processor
    processor.image_processor = type(images).from_dict({**images.to_dict(), **WAYS[way]})

    class Model:
        config, dtype = real.config, torch.float32

        def __call__(self, input_ids: torch.Tensor, pixel_values: torch.Tensor, logits_to_keep: int, **_: Any) -> Any:
            rows = len(input_ids)
            logits = torch.zeros(rows, logits_to_keep, real.config.text_config.vocab_size)
            logits[..., ANSWER] = logit(pixel_values.unflatten(0, (rows, -1)))[:, None]
            return SimpleNamespace(logits=logits)

    return replace(loaded, model=Model(), processor=processor)  # type: ignore[arg-type]


def brightest(pixels: torch.Tensor) -> torch.Tensor:
    """Sure of its answer where anything of five by five pixels is bright, in the last picture."""
    spots = torch.nn.functional.avg_pool2d(pixels[:, -1].mean(1, keepdim=True), 5, stride=1)
    return 12 * spots.flatten(1).max(1).values


def with_spots(size: tuple[int, int], *places: tuple[float, float]) -> Image.Image:
    """A dim, uneven picture with a bright disc at each place, given as shares of width and height."""
    width, height = size
    across, down = numpy.meshgrid(numpy.arange(width) + 0.5, numpy.arange(height) + 0.5)
    grey = 60 + 30 * numpy.sin(across / width * 7) * numpy.cos(down / height * 5)
    for x, y in places:
        grey[numpy.hypot(across - x * width, down - y * height) <= max(size) / 20] = 255
    return Image.fromarray(numpy.repeat(grey.astype(numpy.uint8)[..., None], 3, axis=2))


def peak(one: PictureMap) -> tuple[float, float]:
    """The map's highest point, in pixels of the picture."""
    row, column = numpy.unravel_index(numpy.nanargmax(one.effect), one.effect.shape)
    place = one.placement
    rows, columns = one.effect.shape
    x = place.left + (column + 0.5) * (place.right - place.left) / columns
    return float(x), float(place.top + (row + 0.5) * (place.bottom - place.top) / rows)


@pytest.mark.parametrize("size", [(200, 200), (320, 150), (150, 320), (1500, 1100)])
@pytest.mark.parametrize("way", WAYS)
def test_the_map_points_at_what_the_answer_hangs_on(loaded: LoadedModel, way: str, size: tuple[int, int]) -> None:
    spot = (0.42, 0.57)
    found = evidence_map(seeing(loaded, way, brightest), asked(with_spots(size, spot)), [ANSWER]).maps[0]
    x, y = peak(found)
    assert math.hypot(x - spot[0] * size[0], y - spot[1] * size[1]) <= max(size) / 16
    assert found.strongest > 1 and found.whole > 1


@pytest.mark.parametrize("spot", [(0.03, 0.03), (0.97, 0.5), (0.5, 0.97)])
def test_at_the_edge_too(loaded: LoadedModel, spot: tuple[float, float]) -> None:
    found = evidence_map(seeing(loaded, "pad", brightest), asked(with_spots((240, 200), spot)), [ANSWER]).maps[0]
    x, y = peak(found)
    assert math.hypot(x - spot[0] * 240, y - spot[1] * 200) <= 24


def test_what_is_there_twice_is_shown_twice(loaded: LoadedModel) -> None:
    """Either spot may be hidden and the answer stays: showing each alone tells that both are enough."""
    spots = ((0.25, 0.3), (0.75, 0.7))
    found = evidence_map(seeing(loaded, "pad", brightest), asked(with_spots((256, 256), *spots)), [ANSWER]).maps[0]
    for x, y in spots:
        here = found.effect[round(y * 64), round(x * 64)]
        assert here > 0.8 * found.strongest
    assert found.effect[32, 32] < 0.2 * found.strongest


def test_what_speaks_against_the_answer_is_below_zero(loaded: LoadedModel) -> None:
    against = seeing(loaded, "pad", lambda pixels: -brightest(pixels))
    found = evidence_map(against, asked(with_spots((200, 200), (0.5, 0.5))), [ANSWER]).maps[0]
    assert found.effect[32, 32] < -5 and abs(found.effect[8, 8]) < 2


def test_only_the_picture_that_matters_is_coloured(loaded: LoadedModel) -> None:
    pictures = (with_spots((200, 100), (0.5, 0.5)), with_spots((200, 200), (0.3, 0.3)))
    first, second = evidence_map(seeing(loaded, "pad", brightest), asked(*pictures), [ANSWER]).maps
    assert first.strongest < 1e-6 and abs(first.whole) < 1e-6
    assert peak(second) == pytest.approx((60, 60), abs=12)


def test_padding_has_no_effect_and_cropped_parts_none_either(loaded: LoadedModel) -> None:
    """A bright spot that is cropped away is nothing to the answer."""
    picture = with_spots((300, 150), (0.05, 0.5))
    padded = evidence_map(seeing(loaded, "pad", brightest), asked(picture), [ANSWER]).maps[0]
    assert numpy.array_equal(numpy.isfinite(padded.effect), padded.placement.shows)
    assert padded.placement.shows.any(1).sum() == 32
    cropped = evidence_map(seeing(loaded, "crop", brightest), asked(picture), [ANSWER]).maps[0]
    assert padded.strongest > 5 * cropped.strongest
    assert cropped.placement.seen == pytest.approx((75, 0, 225, 150), abs=1)


def test_a_model_that_does_not_look_is_said_not_to(loaded: LoadedModel) -> None:
    blind = seeing(loaded, "pad", lambda pixels: torch.full((len(pixels),), 3.0))
    found = evidence_map(blind, asked(noise(80, 60)), [ANSWER])
    assert found.maps[0].strongest < 1e-9
    assert verdict(found).startswith("This answer does not rest on the picture")


def test_the_odds_are_those_of_the_answer(loaded: LoadedModel) -> None:
    prompt = asked(noise(64, 64))
    (answer,) = answer_batch(loaded, [prompt], max_new_tokens=4)
    found = evidence_map(loaded, prompt, answer.token_ids)
    assert found.probability ** (1 / len(answer.token_ids)) == pytest.approx(answer.confidence, abs=1e-5)
    assert (found.question, found.answer) == ("Is there a mass?", answer.text)


def test_a_sure_answer_keeps_its_odds(loaded: LoadedModel) -> None:
    """ln(p / (1 - p)) where p rounds to 1: by the logits, ln(e^40 / others)."""
    sure = seeing(loaded, "pad", lambda pixels: torch.full((len(pixels),), 30.0))
    others = sure.model.config.text_config.vocab_size - 1
    assert evidence_map(sure, asked(noise(40, 40)), [ANSWER]).log_odds == pytest.approx(30 - math.log(others), abs=1e-3)


def test_with_other_weights_the_map_is_another(loaded: LoadedModel, tiny_model: Path) -> None:
    """The sanity check of Adebayo et al. 2018; the same weights give the same map."""
    prompt = asked(noise(64, 64))
    (answer,) = answer_batch(loaded, [prompt], max_new_tokens=4)
    first, again = (evidence_map(loaded, prompt, answer.token_ids).maps[0].effect for _ in range(2))
    assert numpy.array_equal(first, again) and numpy.ptp(first) > 0
    for seed in range(2):
        other = load_model(str(tiny_model), device="cpu", precision="fp32")
        generator = torch.Generator().manual_seed(seed)
        model: Any = other.model
        with torch.no_grad():
            for weight in model.parameters():
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.flatten()[order].view_as(weight))
        randomised = evidence_map(other, prompt, answer.token_ids).maps[0].effect
        assert abs(spearmanr(first.ravel(), randomised.ravel())[0]) < 0.5


def test_nothing_to_look_at_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(UsageError, match="needs a picture"):
        evidence_map(loaded, asked(), [ANSWER])
    with pytest.raises(UsageError, match="no answer"):
        evidence_map(loaded, asked(noise(20, 20)), [])


def test_progress_counts_every_look(loaded: LoadedModel) -> None:
    counted: list[int] = []

    class Counting:
        def note(self, message: str) -> None:
            raise AssertionError(message)

        def bar(self, label: str, total: int | None, done: int = 0) -> Any:
            counted.append(-(total or 0))
            return self

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            return

        def advance(self, amount: int = 1, **figures: str) -> None:
            counted.append(amount)

    found: Evidence = evidence_map(loaded, asked(noise(64, 40)), [ANSWER], progress=Counting())
    assert sum(counted) == 0 and len(found.maps) == 1 and -counted[0] > 100
