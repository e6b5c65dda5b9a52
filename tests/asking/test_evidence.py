from __future__ import annotations

import copy
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from llavamed_cli.asking import evidence
from llavamed_cli.asking.evidence import CELLS, cell_box, cover, evidence_map, grid_of
from llavamed_cli.asking.overlay import write_overlay
from llavamed_cli.errors import UsageError
from llavamed_cli.model.generate import Prompt, answer_batch
from llavamed_cli.model.load import LoadedModel, load_model
from llavamed_cli.records import Turn


def noise(width: int, height: int) -> Image.Image:
    values = numpy.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=numpy.uint8)
    return Image.fromarray(values)


def asked(*pictures: Image.Image) -> Prompt:
    return Prompt((Turn(speaker="human", text="<image>\n" * len(pictures) + "Is there a mass?"),), pictures)


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(str(tiny_model), device="cpu", precision="fp32")


def look(loaded: LoadedModel, prompt: Prompt) -> evidence.Evidence:
    (answer,) = answer_batch(loaded, [prompt], max_new_tokens=4)
    return evidence_map(loaded, prompt, answer.token_ids)


@pytest.mark.parametrize("size", [(64, 64), (100, 40), (41, 97), (8, 300), (3, 2)])
def test_parts_tile_the_picture(size: tuple[int, int]) -> None:
    rows, columns = grid = grid_of(size)
    assert max(grid) <= CELLS
    painted = numpy.zeros((size[1], size[0]), dtype=int)
    for row in range(rows):
        for column in range(columns):
            left, upper, right, lower = cell_box(size, (row, column), grid)
            painted[upper:lower, left:right] += 1
    assert (painted == 1).all()


def test_a_cover_changes_its_part_alone() -> None:
    picture = noise(64, 64)
    before, after = numpy.asarray(picture), numpy.asarray(cover(picture, (2, 5), (8, 8)))
    changed = (before != after).any(2)
    assert changed[16:24, 40:48].mean() > 0.9 and changed.sum() == changed[16:24, 40:48].sum()


def test_what_the_answer_hangs_on_is_found_where_it_lies(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose answer is the brightness of the pixels that it gets from one place, whatever was done to them."""

    def bright(of: Any, prompt: Any, ids: Any, pixels: torch.Tensor) -> torch.Tensor:
        height, width = pixels.shape[-2:]
        return pixels[:, 1, :, : height // 8, -width // 8 :].mean((1, 2, 3))

    monkeypatch.setattr(evidence, "_log_probabilities", bright)
    picture = Image.new("RGB", (200, 200))
    picture.paste((255, 255, 255), (175, 0, 200, 25))
    found = evidence_map(loaded, asked(noise(50, 50), picture), [1])
    assert numpy.unravel_index(found.maps[1].argmax(), found.maps[1].shape) == (0, 7)
    assert found.maps[1].max() > 0 and numpy.count_nonzero(found.maps[1] > 1e-3) == 1
    assert abs(found.maps[0]).max() < 1e-6


def test_parts_that_are_cropped_away_are_unseen(loaded: LoadedModel) -> None:
    class Cropping:
        """The model, its pictures cropped to the middle square."""

        def __getattr__(self, name: str) -> Any:
            return getattr(loaded, name)

        def pixels(self, pictures: list[Image.Image]) -> torch.Tensor:
            cut = [
                one.crop(((one.width - one.height) // 2, 0, (one.width + one.height) // 2, one.height))
                for one in pictures
            ]
            return loaded.pixels(cut)

    plain = noise(160, 80)
    plain.paste((90, 90, 90), (60, 0, 100, 80))  # of its cover's colour or not, it is seen
    found = evidence_map(Cropping(), asked(plain), [1])  # type: ignore[arg-type]
    assert found.seen[0].tolist() == [[False, False, True, True, True, True, False, False]] * 4
    assert not found.maps[0][~found.seen[0]].any()


def test_with_other_weights_the_map_is_another(loaded: LoadedModel, tiny_model: Path) -> None:
    """The sanity check of Adebayo et al. 2018; the same weights give the same map."""
    prompt = asked(noise(64, 64))
    first, again = look(loaded, prompt), look(loaded, prompt)
    assert numpy.array_equal(first.maps[0], again.maps[0]) and first.maps[0].any()
    other = load_model(str(tiny_model), device="cpu", precision="fp32")
    torch.manual_seed(1)
    model: Any = other.model
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    (answer,) = answer_batch(loaded, [prompt], max_new_tokens=4)
    randomised = evidence_map(other, prompt, answer.token_ids).maps[0]
    ranks = [values.ravel().argsort().argsort() for values in (first.maps[0], randomised)]
    assert abs(numpy.corrcoef(*ranks)[0, 1]) < 0.5


def test_log_probabilities_are_those_of_the_answer(loaded: LoadedModel) -> None:
    prompt = asked(noise(64, 64))
    (answer,) = answer_batch(loaded, [prompt], max_new_tokens=4)
    found = evidence_map(loaded, prompt, answer.token_ids)
    assert numpy.exp(found.log_probability / len(answer.token_ids)) == pytest.approx(answer.confidence, abs=1e-5)


class CornerModel:
    """Answers with token 1 the likelier, the more of a picture's view is red there: no language, only a place.

    view: rows and columns of the last picture's view that it looks at.
    """

    dtype = torch.float32

    def __init__(self, loaded: LoadedModel, pictures: int, view: tuple[slice, slice]) -> None:
        self.config = loaded.model.config
        self.pictures = pictures
        self.view = view

    def __call__(self, *, input_ids: torch.Tensor, pixel_values: torch.Tensor, logits_to_keep: int, **_: Any) -> Any:
        views = pixel_values.unflatten(0, (len(input_ids), self.pictures))
        red = views[:, -1, 0][:, self.view[0], self.view[1]].mean((1, 2))
        logits = torch.zeros(len(input_ids), logits_to_keep, 8)
        logits[..., 1] = red[:, None]
        return SimpleNamespace(logits=logits)


SETTINGS: dict[str, dict[str, Any]] = {
    "crop": {"do_pad": False, "size": {"shortest_edge": 64}},
    "pad": {"do_pad": True, "size": {"shortest_edge": 64}},
    "stretch": {"do_pad": False, "do_center_crop": False, "size": {"height": 64, "width": 64}},
}
"""What published LLaVAs do with a picture: CLIP's own, v1.5's, and that of towers which take any shape as a square."""


def through(loaded: LoadedModel, setting: str, pictures: int, view: tuple[slice, slice]) -> LoadedModel:
    """A CornerModel behind an image processor with other settings."""
    processor: Any = copy.copy(loaded.processor)
    processor.image_processor = type(processor.image_processor)(
        **{**loaded.processor.image_processor.to_dict(), **SETTINGS[setting]}  # type: ignore[attr-defined]
    )
    model: Any = CornerModel(loaded, pictures, view)
    return LoadedModel(model, processor, "cpu", {})


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("size", [(160, 160), (320, 160), (160, 320), (1600, 800)])
def test_the_place_is_found_however_a_picture_is_cropped_or_scaled(
    loaded: LoadedModel, setting: str, size: tuple[int, int]
) -> None:
    """The upper right of what the model sees, which lies elsewhere in the picture for each setting."""
    width, height = size
    side, longer = min(size), max(size)
    left, upper, across, down = {
        "crop": ((width - side) / 2, (height - side) / 2, side, side),
        "pad": ((width - longer) / 2, (height - longer) / 2, longer, longer),
        "stretch": (0, 0, width, height),
    }[setting]
    # a window of the view, 8 of its 64 pixels wide, at the upper right of where the picture lies in it
    right = min(width, left + across)
    first_row = max(0, round(-upper * 64 / down))
    last_column = round((right - left) * 64 / across)
    view = slice(first_row, first_row + 8), slice(last_column - 8, last_column)
    middle = left + (last_column - 4) * across / 64, upper + (first_row + 4) * down / 64
    picture = Image.new("RGB", size, (255, 0, 0))
    picture.paste((0, 0, 0), (0, height // 2, width, height))  # so that the cover, the mean colour, is another red
    looking = through(loaded, setting, 2, view)
    found = evidence_map(looking, asked(noise(50, 50), picture), [1])
    rows, columns = found.maps[1].shape
    row, column = numpy.unravel_index(found.maps[1].argmax(), found.maps[1].shape)
    assert abs((column + 0.5) * width / columns - middle[0]) <= width / columns
    assert abs((row + 0.5) * height / rows - middle[1]) <= height / rows
    assert found.maps[1].max() > 0.1 and not found.maps[0].any()
    if setting == "crop" and width == 2 * height:
        assert found.seen[1].tolist() == [[False, False, True, True, True, True, False, False]] * 4
    if setting != "crop":
        assert found.seen[1].all()


def test_a_large_picture_has_the_map_of_a_small_one(loaded: LoadedModel) -> None:
    small = noise(128, 128)
    large = small.resize((1280, 1280), Image.Resampling.NEAREST)
    maps = [evidence_map(loaded, asked(one), [1, 2]).maps[0] for one in (small, large)]
    assert maps[0] == pytest.approx(maps[1], abs=1e-5)


@pytest.mark.parametrize(("pictures", "answer"), [((), [1]), ((Image.new("RGB", (8, 8)),), [])])
def test_without_a_picture_or_an_answer_there_is_no_map(
    loaded: LoadedModel, pictures: tuple[Image.Image, ...], answer: list[int]
) -> None:
    with pytest.raises(UsageError):
        evidence_map(loaded, asked(*pictures), answer)


def test_the_overlay_names_its_method(loaded: LoadedModel, tmp_path: Path) -> None:
    picture = noise(90, 40)
    write_overlay([picture], look(loaded, asked(picture)), tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.format == "PNG" and min(drawn.size) > 300
        assert re.match("occlusion.*not that the answer is right", drawn.text["Description"])  # type: ignore[attr-defined]


def colours(drops: list[list[float]], path: Path) -> numpy.ndarray:
    """What is coloured of a grey picture's overlay, legend left out: [n, 3]."""
    maps = numpy.array(drops, dtype=numpy.float32)
    write_overlay([Image.new("RGB", (80, 80), "gray")], evidence.Evidence((maps,), (maps == maps,), -1.0), path)
    with Image.open(path) as drawn:
        pixels = numpy.asarray(drawn.convert("RGB")).astype(int)[:, : drawn.width * 2 // 3]
    return pixels[pixels.max(2) - pixels.min(2) > 60]


def test_what_speaks_for_and_against_is_told_apart(tmp_path: Path) -> None:
    leaning, against = colours([[2, 0], [0, 0]], tmp_path / "a.png"), colours([[0, -2], [0, 0]], tmp_path / "b.png")
    assert len(leaning) > 5000 and (leaning[:, 0] > leaning[:, 2]).all()
    assert len(against) > 5000 and (against[:, 0] < against[:, 2]).all()


def test_noise_is_not_stretched_to_a_finding(tmp_path: Path) -> None:
    assert len(colours([[0.04, 0.0], [0.0, -0.03]], tmp_path / "a.png")) == 0
