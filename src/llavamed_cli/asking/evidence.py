"""Where an answer looked, by covering: how much less likely the same answer is with a part of the picture covered.

Parts are covered in the picture itself, before it is cropped or scaled for the model, so the map lies right whatever
the model does with pictures, and no attention or gradient is read that may have little to do with the answer (Adebayo
et al. 2018, arXiv 1810.03292; Zeiler and Fergus 2013, arXiv 1311.2901, section 4.2). The price is a forward for each
part, and a coarse map. What two parts show alike, each alone may leave unmoved; and that a part moves an answer does
not make the answer right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llavamed_cli.model.generate import Prompt, prompt_ids

if TYPE_CHECKING:
    import numpy
    import torch
    from PIL.Image import Image

    from llavamed_cli.model.load import LoadedModel

METHOD = "occlusion"
CELLS = 8
"""Parts along a picture's longer side."""
AT_ONCE = 8
"""Covered pictures in a batch."""


@dataclass(frozen=True)
class Evidence:
    """What covering did to an answer.

    maps: of each picture, float [rows, columns]: how far covering a part lowers the answer's log-probability, in nats
        (above 0: the answer leans on it; below: it speaks against).
    seen: bool [rows, columns]: whether any pixel of a part reaches the model.
    log_probability: of the answer with nothing covered.
    """

    maps: tuple[numpy.ndarray, ...] = field(repr=False)
    seen: tuple[numpy.ndarray, ...] = field(repr=False)
    log_probability: float
    method: str = METHOD


def evidence_map(loaded: LoadedModel, prompt: Prompt, answer_ids: Sequence[int]) -> Evidence:
    """Cover every part of every picture in turn.

    Args:
        answer_ids: the answer's tokens, its end marker included, of which there is at least one.
    """
    import numpy

    pixels = loaded.pixels(list(prompt.pictures))
    whole = float(_log_probabilities(loaded, prompt, answer_ids, pixels[None])[0])
    maps, seen = [], []
    for number, picture in enumerate(prompt.pictures):
        rows, columns = grid_of(picture.size)
        drops = numpy.zeros((rows, columns), dtype=numpy.float32)
        reached = numpy.zeros((rows, columns), dtype=bool)
        places = [(row, column) for row in range(rows) for column in range(columns)]
        for start in range(0, len(places), AT_ONCE):
            some = places[start : start + AT_ONCE]
            covered = loaded.pixels([cover(picture, place, (rows, columns)) for place in some])
            shown = pixels[None].repeat(len(some), 1, 1, 1, 1)
            shown[:, number] = covered
            found = _log_probabilities(loaded, prompt, answer_ids, shown)
            for place, one, value in zip(some, covered, found.tolist(), strict=True):
                reached[place] = bool((one != pixels[number]).any()) or _reaches(loaded, picture, place, pixels[number])
                drops[place] = whole - value if reached[place] else 0.0
        maps.append(drops)
        seen.append(reached)
    return Evidence(tuple(maps), tuple(seen), whole)


def grid_of(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of parts that are nearly square. size: width and height."""
    width, height = size
    longer = max(width, height)
    return max(1, round(CELLS * height / longer)), max(1, round(CELLS * width / longer))


def cell_box(size: tuple[int, int], place: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int, int, int]:
    """A part's left, upper, right and lower pixel. size: width and height; place: its row and column."""
    (width, height), (row, column), (rows, columns) = size, place, grid
    left, right = column * width // columns, (column + 1) * width // columns
    return left, row * height // rows, right, (row + 1) * height // rows


def cover(picture: Image, place: tuple[int, int], grid: tuple[int, int]) -> Image:
    """The picture with one part in the picture's mean colour, which adds no edge of its own where it is even."""
    from PIL import ImageStat

    covered = picture.copy()
    mean = tuple(round(value) for value in ImageStat.Stat(picture).mean)
    covered.paste(mean, cell_box(picture.size, place, grid))
    return covered


def _reaches(loaded: LoadedModel, picture: Image, place: tuple[int, int], pixels: torch.Tensor) -> bool:
    """Whether a part that its cover did not change reaches the model: whether its negative would."""
    from PIL import ImageOps

    box = cell_box(picture.size, place, grid_of(picture.size))
    other = picture.copy()
    other.paste(ImageOps.invert(picture.crop(box)), box)
    return bool((loaded.pixels([other])[0] != pixels).any())


def _log_probabilities(
    loaded: LoadedModel, prompt: Prompt, answer_ids: Sequence[int], pixels: torch.Tensor
) -> torch.Tensor:
    """Of the answer, for every row of pictures. pixels: float [rows, pictures, 3, height, width]; returns [rows]."""
    import torch

    model: Any = loaded.model
    asked = prompt_ids(loaded, prompt)
    ids = torch.tensor([(*asked, *answer_ids)], device=loaded.device).repeat(len(pixels), 1)
    wanted = torch.tensor(answer_ids, device=loaded.device)
    with torch.inference_mode():
        logits = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixels.flatten(0, 1).to(loaded.device, model.dtype),
            logits_to_keep=len(answer_ids) + 1,
            use_cache=False,
        ).logits[:, :-1]
    chosen = logits.float().log_softmax(-1).gather(-1, wanted.expand(len(pixels), -1)[..., None])
    total: torch.Tensor = chosen[..., 0].sum(1).cpu()
    return total
