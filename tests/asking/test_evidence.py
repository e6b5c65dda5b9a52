from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from llavamed_cli.asking import evidence
from llavamed_cli.asking.evidence import CELLS, cell_box, cover, evidence_map, grid_of
from llavamed_cli.asking.overlay import write_overlay
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


def test_the_overlay_names_its_method(loaded: LoadedModel, tmp_path: Path) -> None:
    picture = noise(90, 40)
    write_overlay([picture], look(loaded, asked(picture)), tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.format == "PNG" and min(drawn.size) > 300
        assert re.match("occlusion.*not that the answer is right", drawn.text["Description"])  # type: ignore[attr-defined]
