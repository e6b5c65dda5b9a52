"""A picture as three hashes of 256 bits that stay near when it is scaled, compressed, brightened or trimmed a little.

Each hash holds the signs of the 16 x 16 lowest cosine frequencies of a 64 x 64 grey copy (the phash of the `imagehash`
package with signs in place of a median, here in integers, so that every machine and thread finds the same bits; that
package would bring SciPy and PyWavelets for these few lines).

Measured on 315 VQA-RAD and 96 SLAKE pictures, in bits by which the nearest views of two pictures differ:

    halved, 224 x 224, grey, JPEG of quality 40          at most 4
    brightness or contrast changed by a fifth            at most 19
    1 or 2% trimmed off all four edges                   at most 9 (3%: within the limit of 23 for 3 of 4 pictures)
    2% trimmed off one edge, 1% off two                  within the limit for 62%, 94%
    two different pictures                               at least 44, two of VQA-RAD at least 63
    neighbouring slices of one scan (three of SLAKE)     4, 10, 25

A difference hash of 16 x 16 bits moves by up to 17 under JPEG, and finds different pictures at 9; an 8 x 8 cosine hash
finds them at 4, and moves by 6 when a picture is brightened.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

BITS = 256
SAMPLED, FREQUENCIES = 64, 16
COPY = 128
"""Pixels a side of the copy that all views are cut from."""
EDGES_OFF = (0.0, 0.02, 0.01)
"""The share that a view leaves out at each edge: a trimmed picture's whole is the inner part of its original."""
KEPT = 2
"""Views by which a picture is found again; all are sought. The third need not be kept: where 1% was trimmed off, the
inner view of what is left is the second view of the original."""
PRECISION = 2**14

PictureHash = tuple[int, ...]
"""One number of 256 bits for each view in EDGES_OFF."""


def hash_picture(picture: Image) -> PictureHash:
    """The hashes of a picture, of any mode and shape."""
    import numpy
    from PIL.Image import Resampling

    copy = picture.convert("L").resize((COPY, COPY), Resampling.LANCZOS, reducing_gap=3.0)
    hashes = []
    for share in EDGES_OFF:
        off = share * COPY
        view = copy.resize((SAMPLED, SAMPLED), Resampling.BILINEAR, box=(off, off, COPY - off, COPY - off))
        hashes.append(_signs(numpy.asarray(view, dtype=numpy.int64)))
    return tuple(hashes)


def distance(one: int, other: int) -> int:
    """In how many bits two hashes differ."""
    return (one ^ other).bit_count()


def _signs(grey: numpy.ndarray) -> int:
    """The signs of the lowest frequencies of grey [64, 64]. Where a picture is flat, all are 0."""
    import numpy

    cosines, order = _cosines()
    signs = cosines @ grey @ cosines.T > 0  # [16, 16]
    signs[0, 0] = False  # the mean brightness
    return int.from_bytes(numpy.packbits(signs.ravel()[order]).tobytes(), "big")


@lru_cache(maxsize=1)
def _cosines() -> tuple[Any, Any]:
    """The first cosines of the DCT-II, as integers [16, 64], and the order of bits.

    Frequencies are dealt to the parts of a hash in turn: neighbouring low ones are alike in most pictures, and a part
    that held only those would find everything.
    """
    import numpy

    k, x = numpy.arange(FREQUENCIES)[:, None], numpy.arange(SAMPLED)[None]
    cosines = numpy.rint(PRECISION * numpy.cos(numpy.pi * k * (2 * x + 1) / (2 * SAMPLED))).astype(numpy.int64)
    rows, columns = numpy.mgrid[:FREQUENCIES, :FREQUENCIES]
    rising = numpy.argsort((rows + columns).ravel(), kind="stable")
    return cosines, numpy.concatenate([rising[part::PARTS] for part in range(PARTS)])


PARTS = 12
"""Of a hash, by which near ones are found; see `deduplicate`."""
