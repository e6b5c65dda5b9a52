"""One axial slice of a NIfTI volume, as a radiologist sees it: front up, the patient's right on the left.

Needs the extra `nifti` (nibabel). Only the slice is read, not the volume.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import LlavamedError, PictureError
from llavamed_cli.model.grey_levels import own_range, scale_to_8_bit, window_to_8_bit
from llavamed_cli.model.picture import Picture, PictureFacts, View, check_size, chosen_frame, frame_notes

if TYPE_CHECKING:
    import numpy

UP, FRONT, RIGHT = 2, 1, 0
"""NIfTI's world axes: x grows to the patient's right, y to the front, z upwards (RAS+)."""


def read_nifti(path: Path, view: View) -> Picture:
    """Read the middle axial slice, or the one that `view.frame` counts from the feet; of a series, the first volume.

    Grey levels go by `view.window`, or by the slice's own range.

    Raises:
        PictureError: nibabel is not installed, or the file is damaged, too large, or holds no grey volume.
        UsageError: the view names a slice that is not there.
    """
    try:
        import nibabel
    except ImportError as error:
        raise PictureError(
            "reading NIfTI needs the package nibabel", where=str(path), hint="pip install 'llavamed[nifti]'"
        ) from error
    from PIL import Image

    warnings.filterwarnings("ignore", module=r"nibabel\b")
    try:
        volume: Any = nibabel.load(path)
        shape = tuple(int(length) for length in volume.shape)
        if len(shape) < 3 or volume.get_data_dtype().kind not in "iuf":
            raise PictureError("this NIfTI file holds no grey volume", where=str(path))
        axes = [int(axis) for axis in nibabel.io_orientation(volume.affine)[:, 0]]
        height = axes.index(UP)
        check_size(shape[axes.index(RIGHT)], shape[axes.index(FRONT)], path)
        frames = shape[height]
        frame = chosen_frame(view, frames, (frames + 1) // 2, path)
        plane = _axial_slice(volume, nibabel.io_orientation(volume.affine), frame)
    except LlavamedError:
        raise
    except Exception as error:  # nibabel raises whatever a damaged header leads to
        raise PictureError(
            f"this NIfTI file is damaged, or its header is wrong ({type(error).__name__})", where=str(path)
        ) from error
    notes = frame_notes(view, frame, frames)
    if any(length > 1 for length in shape[3:]):
        notes += (f"the first of {shape[3]} volumes is shown",)
    low, high = own_range(plane)
    grey = window_to_8_bit(plane, *view.window) if view.window else scale_to_8_bit(plane, (low, high))
    if not view.window:
        notes += (f"scaled by the slice's own range, {low:g} to {high:g}; --window picks another",)
    facts = PictureFacts(
        format="NIfTI",
        mode=str(volume.get_data_dtype()),
        width=grey.shape[1],
        height=grey.shape[0],
        frames=frames,
        frame=frame,
        window=view.window,
        notes=notes,
    )
    return Picture(Image.fromarray(grey).convert("RGB"), facts)


def _axial_slice(volume: Any, orientation: Any, frame: int) -> numpy.ndarray:
    """Values [rows, columns] of the slice `frame`. orientation [3, 2]: each stored axis's world axis and its sign."""
    import numpy

    axes = [int(axis) for axis in orientation[:, 0]]
    signs = dict(zip(axes, orientation[:, 1], strict=True))
    height = axes.index(UP)
    place = frame - 1 if signs[UP] > 0 else volume.shape[height] - frame
    index: list[Any] = [slice(None)] * 3 + [0] * (len(volume.shape) - 3)
    index[height] = place
    plane = numpy.asarray(volume.dataobj[tuple(index)])
    if axes.index(RIGHT) < axes.index(FRONT):
        plane = plane.T  # [front, right]
    return plane[:: -int(signs[FRONT]), :: -int(signs[RIGHT])]
