"""Where on a picture the model's view of it lies: measured with test pictures, whatever its processor does.

A processor pads, scales and crops as its settings say, and there are many such settings. Instead of following them, a
black, a white and a shaded picture of the same size are sent through it; what comes out says where each pixel of the
view came from. The price is three more pictures to process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llavamed_cli.errors import ModelError, PictureError

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

    from llavamed_cli.model.load import LoadedModel

LEAST_LINES = 4
"""Rows or columns of the view that a line can be laid through with some certainty."""
EDGE = 2.5
"""Pixels beside the picture's edge, of the view or of the picture, that scaling mixes with what lies beyond."""
LEVELS = 255


@dataclass(frozen=True)
class Placement:
    """A view of height H and width W, laid over a picture.

    left, top, right, bottom: the view's edges in pixels of the picture; beyond the picture's own edges lies padding.
    size: the picture's width and height. shows: bool [H, W], where the view shows the picture and not padding.
    """

    left: float
    top: float
    right: float
    bottom: float
    size: tuple[int, int]
    shows: numpy.ndarray = field(repr=False, compare=False)

    @property
    def seen(self) -> tuple[float, float, float, float]:
        """The part of the picture that the model sees: left, top, right, bottom, in pixels of the picture."""
        width, height = self.size
        return max(0.0, self.left), max(0.0, self.top), min(width, self.right), min(height, self.bottom)

    @property
    def cropped(self) -> bool:
        """Whether more than a pixel of the view, on any side, was cut away."""
        rows, columns = self.shows.shape
        across, down = (self.right - self.left) / columns, (self.bottom - self.top) / rows
        width, height = self.size
        left, top, right, bottom = self.seen
        return max(left, width - right) > across or max(top, height - bottom) > down


def find_placement(loaded: LoadedModel, size: tuple[int, int]) -> Placement:
    """Where the view of a picture of this width and height lies.

    Raises:
        ModelError: the model does not see a picture in one straight piece.
        PictureError: it is so narrow that the model sees next to nothing of it.
    """
    black, white, shaded = (_view(loaded, probe) for probe in _probes(size))
    span = white - black  # float [3, H, W]: zero where the processor put something of its own
    shows = (span / span.max(axis=(1, 2), keepdims=True)).min(axis=0) > 0.5
    share = (shaded - black) / span.clip(min=1e-6)
    left, right = _edges(share[0], shows, size[0])
    top, bottom = _edges(share[1].T, shows.T, size[1])
    return Placement(left, top, right, bottom, size, shows)


def _probes(size: tuple[int, int]) -> list[Image]:
    """Black, white, and one whose red is the way from left to right and whose green is the way from top to bottom."""
    import numpy
    from PIL import Image

    width, height = size
    shaded = numpy.zeros((height, width, 3), dtype=numpy.uint8)
    shaded[..., 0] = _ramp(width)[None]
    shaded[..., 1] = _ramp(height)[:, None]
    return [Image.new("RGB", size), Image.new("RGB", size, "white"), Image.fromarray(shaded)]


def _ramp(length: int) -> numpy.ndarray:
    import numpy

    return numpy.round((numpy.arange(length) + 0.5) / length * LEVELS).astype(numpy.uint8)


def _view(loaded: LoadedModel, picture: Image) -> numpy.ndarray:
    pixels = loaded.pixels([picture])
    if pixels.ndim != 4 or len(pixels) != 1:
        raise ModelError("no map: this model sees a picture in several pieces")
    view: numpy.ndarray = pixels[0].double().numpy()
    return view


def _edges(share: numpy.ndarray, shows: numpy.ndarray, length: int) -> tuple[float, float]:
    """The picture's coordinates, in pixels, of the view's first and last edge along the second axis.

    share: how far along the picture each pixel of the view lies, 0 to 1; a straight line, but for rounding.
    """
    import numpy

    columns = numpy.flatnonzero(shows.any(axis=0))
    along = numpy.array([share[shows[:, column], column].mean() for column in columns])
    inner = (along > EDGE / length) & (along < 1 - EDGE / length)
    inner &= (columns >= columns.min(initial=0) + EDGE) & (columns <= columns.max(initial=0) - EDGE)
    if inner.sum() < LEAST_LINES:
        raise PictureError("no map: the picture is so small or narrow that the model sees a few lines of it")
    slope, start = numpy.polyfit(columns[inner] + 0.5, along[inner], 1)
    off = numpy.abs(slope * (columns[inner] + 0.5) + start - along[inner]).max()
    if slope <= 0 or off > max(slope, 1 / LEVELS):
        raise ModelError("no map: this model does not see a picture in one straight piece")
    return float(start * length), float((start + slope * shows.shape[1]) * length)
