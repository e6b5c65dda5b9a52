"""From deep grey levels (12 bits, 16 bits, floats) to the 256 of a picture: by a window, or by the values' own range.

A range is taken from the data because a 12-bit picture in a 16-bit file is black otherwise. It is the plain minimum and
maximum, so that nothing is lost, unless a few stray pixels (hot pixels, burnt-in markers, metal) would take up most of
it: then it ends where they begin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

STRAY_PERCENT = 0.1
STRAY_REACH = 0.5
"""Where the outermost 0.1% of pixels at one end take up more than half of the range, they are clipped."""
BLOCK = 1 << 22
"""Values computed on at once: float copies stay at tens of megabytes for any picture."""


def own_range(values: numpy.ndarray) -> tuple[float, float]:
    """The least and the greatest finite value, short of strays; (0, 0) where none is finite."""
    import numpy

    finite = values[numpy.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    if not finite.size:
        return 0.0, 0.0
    low, high = float(finite.min()), float(finite.max())
    inner_low, inner_high = map(float, numpy.percentile(finite, (STRAY_PERCENT, 100 - STRAY_PERCENT)))
    if inner_high <= inner_low:  # a mask: nearly all of it is one value, and the rest is what matters
        return low, high
    reach = STRAY_REACH * (high - low)
    return (inner_low if inner_low - low > reach else low), (inner_high if high - inner_high > reach else high)


def scale_to_8_bit(values: numpy.ndarray, limits: tuple[float, float] | None = None) -> numpy.ndarray:
    """Spread values [height, width] of any number type over uint8, from `limits` or their own range.

    What is not a number becomes black, infinities the end they point to, and values that are all one, black.
    """
    low, high = limits or own_range(values)
    if high <= low:
        return _in_blocks(values, lambda block: block * 0.0)
    return _in_blocks(values, lambda block: (block - low) / (high - low))


def window_to_8_bit(
    values: numpy.ndarray, centre: float, width: float, function: str = "LINEAR_EXACT"
) -> numpy.ndarray:
    """Spread the window of values [height, width] over uint8; below it is black, above it white.

    function: DICOM's VOI LUT Function (PS3.3 C.11.2.1.2 and C.11.2.1.3): LINEAR, LINEAR_EXACT or SIGMOID. LINEAR's
    window ends half a level early on both sides, which has no meaning for one narrower than a level.
    """
    import numpy

    if function == "SIGMOID":
        return _in_blocks(values, lambda block: 1 / (1 + numpy.exp(numpy.clip(-4 * (block - centre) / width, -99, 99))))
    if function == "LINEAR" and width > 1:
        centre, width = centre - 0.5, width - 1
    return _in_blocks(values, lambda block: (block - centre) / width + 0.5)


def _in_blocks(values: numpy.ndarray, share: Callable[[numpy.ndarray], numpy.ndarray]) -> numpy.ndarray:
    """uint8 of the values' `share` of white (0 to 1, clipped), some rows at a time."""
    import numpy

    grey = numpy.empty(values.shape, dtype=numpy.uint8)
    rows = max(1, BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        with numpy.errstate(invalid="ignore"):
            shares = share(values[start : start + rows].astype(numpy.float64))
        grey[start : start + rows] = numpy.rint(255 * numpy.clip(numpy.nan_to_num(shares, nan=0.0), 0, 1))
    return grey
