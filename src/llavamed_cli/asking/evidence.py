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

from llavamed_cli.errors import UsageError
from llavamed_cli.model.answer_room import answer_room
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
"""Covered prompts in a batch, at most; fewer where the memory holds fewer."""
SPARE = 2
"""A picture is taken down to no less than this many times the model's view: a film of 36 megapixels would be scaled
for every part, which takes longer than the model does."""


@dataclass(frozen=True)
class Evidence:
    """What covering did to an answer.

    maps: of each picture, float [rows, columns]: how far covering a part lowers the answer's log-probability, in nats
        (above 0: the answer leans on it; below: it speaks against).
    seen: bool [rows, columns]: whether a part reaches the model; what does not is 0 in its map.
    log_probability: of the answer with nothing covered. (A large picture is first taken down, see SPARE.)
    """

    maps: tuple[numpy.ndarray, ...] = field(repr=False)
    seen: tuple[numpy.ndarray, ...] = field(repr=False)
    log_probability: float
    method: str = METHOD


def evidence_map(loaded: LoadedModel, prompt: Prompt, answer_ids: Sequence[int]) -> Evidence:
    """Cover every part of every picture in turn.

    Args:
        answer_ids: the answer's tokens, its end marker included.

    Raises:
        UsageError: no picture, or an answer without a token.
    """
    import numpy

    if not prompt.pictures:
        raise UsageError("a map of evidence needs a picture")
    if not answer_ids:
        raise UsageError("there is no answer whose evidence could be shown")
    view = min(loaded.pixels([prompt.pictures[0]]).shape[-2:])
    pictures = [_taken_down(picture, view) for picture in prompt.pictures]
    at_once = _at_once(loaded, prompt, answer_ids)
    pixels = loaded.pixels(pictures)
    whole = float(_log_probabilities(loaded, prompt, answer_ids, pixels[None])[0])
    maps, seen = [], []
    for number, picture in enumerate(pictures):
        rows, columns = grid_of(picture.size)
        drops = numpy.zeros((rows, columns), dtype=numpy.float32)
        reached = _seen(loaded, picture.size)
        places = [(int(row), int(column)) for row, column in zip(*numpy.nonzero(reached), strict=True)]
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            covered = loaded.pixels([cover(picture, place, (rows, columns)) for place in some])
            shown = pixels[None].repeat(len(some), 1, 1, 1, 1)
            shown[:, number] = covered
            found = _log_probabilities(loaded, prompt, answer_ids, shown)
            for place, value in zip(some, found.tolist(), strict=True):
                drops[place] = whole - value
        maps.append(drops)
        seen.append(reached)
    return Evidence(tuple(maps), tuple(seen), whole)


def grid_of(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of parts that are nearly square. size: width and height."""
    width, height = size
    longer = max(width, height)
    cells = min(CELLS, longer)
    return max(1, round(cells * height / longer)), max(1, round(cells * width / longer))


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


def _taken_down(picture: Image, view: int) -> Image:
    """A picture of the same shape, by whole factors. view: pixels along the shorter side of what the model takes."""
    factor = min(picture.size) // (SPARE * view)
    return picture.reduce(factor) if factor > 1 else picture


def _at_once(loaded: LoadedModel, prompt: Prompt, answer_ids: Sequence[int]) -> int:
    length = len(prompt_ids(loaded, prompt)) + len(answer_ids)
    return max(1, min(AT_ONCE, answer_room(loaded).read // length))


def _seen(loaded: LoadedModel, size: tuple[int, int]) -> numpy.ndarray:
    """Which parts of a picture of this size make up half of any pixel of the model's view, tried in black and white.

    Half, because a picture may be scaled before it is cropped, and then a little of what is cut away is in the edge.
    """
    import numpy
    from PIL import Image

    dark = Image.new("RGB", size)
    black, white = loaded.pixels([dark, Image.new("RGB", size, "white")]).mean(1)
    span = white - black  # [height, width]: none where the view is padding
    picture = span > span.max() / 10
    seen = numpy.zeros(grid_of(size), dtype=bool)
    for place in numpy.ndindex(*seen.shape):
        lit = dark.copy()
        lit.paste((255, 255, 255), cell_box(size, place, seen.shape))
        share = (loaded.pixels([lit])[0].mean(0) - black)[picture] / span[picture]
        seen[place] = bool(share.max() >= 0.5)
    return seen


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
