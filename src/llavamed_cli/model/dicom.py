"""From a DICOM file to a picture, as a viewer would first show it: rescaled, windowed, MONOCHROME1 turned over.

Only the elements that say how to show pixels are read; the patient's are skipped over, and no text of the header is
ever quoted, not in errors either. DICOM's code of the modality is the one thing that leaves. Overlays are left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from llavamed_cli.errors import LlavamedError, PictureError, UsageError
from llavamed_cli.model.dicom_decode import decode_frame, open_inflated
from llavamed_cli.model.grey_levels import own_range, scale_to_8_bit, window_to_8_bit
from llavamed_cli.model.picture import Picture, PictureFacts, View, check_size, chosen_frame, frame_notes

if TYPE_CHECKING:
    import numpy

PALETTES = [
    f"{kind}{colour}PaletteColorLookupTable{part}"
    for kind in ("", "Segmented")
    for colour in ("Red", "Green", "Blue")
    for part in ("Descriptor", "Data")
    if (kind, part) != ("Segmented", "Descriptor")
]
READ = [
    *("Modality", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("NumberOfFrames", "RepresentativeFrameNumber", "BitsAllocated", "BitsStored", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *PALETTES,
]
"""Every element that is read."""
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""Three samples a pixel, which the decoders turn into RGB."""
# fmt: off
MODALITIES = frozenset({
    "BI", "CR", "CT", "DX", "ECG", "ES", "GM", "IO", "IVOCT", "IVUS", "MG", "MR", "NM", "OCT", "OP", "OPM", "OPT", "OT",
    "PT", "PX", "RF", "RG", "RTDOSE", "RTIMAGE", "SEG", "SM", "TG", "US", "XA", "XC",
})
# fmt: on
"""PS3.3 C.7.3.1.1.1: the terms for what is a picture. Anything else in that field stays inside."""
NO_PICTURES = {
    "1.2.840.10008.1.3.10": "a DICOMDIR, which lists other files",
    "1.2.840.10008.5.1.4.1.1.88.": "a structured report",
    "1.2.840.10008.5.1.4.1.1.104.": "an encapsulated document, such as a PDF",
    "1.2.840.10008.5.1.4.1.1.9.": "a waveform",
    "1.2.840.10008.5.1.4.1.1.11.": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.481.": "a radiotherapy plan or structure set",
}
"""SOP classes (PS3.4 B.5) or the stems of their families."""


@dataclass(frozen=True)
class _Window:
    """How grey was spread. window: (centre, width), where one was."""

    grey: numpy.ndarray
    window: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def read_dicom(path: Path, view: View) -> Picture:
    """Read one frame: the one of `view`, or the representative one that the file names, or the middle one, since the
    first slice of a volume is its edge.

    Grey levels go by `view.window`, by the header's VOI table or first window, or by the frame's own range; up to 8
    bits without a window are shown as they are. Padding is black and stretches nothing.

    Raises:
        PictureError: damaged, too large, compressed by an unknown method, or no picture.
        UsageError: the view asks for a frame that is not there, or for a window on a colour picture.
    """
    from PIL import Image

    with _in_our_words("the header of this DICOM file is damaged", path), open_inflated(path) as stream:
        header = _read_header(stream, path)
        frames = int(header.get("NumberOfFrames") or 1)
        representative = int(header.get("RepresentativeFrameNumber") or 0)
        middle = (frames + 1) // 2
        frame = chosen_frame(view, frames, representative if 1 <= representative <= frames else middle, path)
        meaning = _interpretation(header, path)
        if meaning not in GREY and view.window:
            raise UsageError("a window is for grey pictures; this one is in colour", where=str(path))
        with _in_our_words("the pixels of this DICOM file are damaged, or fewer than its header says", path):
            stored = decode_frame(stream, header, frame)
        shown = _grey(stored, header, frame, view) if meaning in GREY else _Window(_colour(stored, header, meaning))
        facts = PictureFacts(
            format="DICOM",
            mode=f"{meaning}, {int(header.BitsStored)} bits",
            width=shown.grey.shape[1],
            height=shown.grey.shape[0],
            frames=frames,
            frame=frame,
            window=shown.window,
            modality=code if (code := header.get("Modality")) in MODALITIES else None,
            notes=frame_notes(view, frame, frames) + shown.notes,
        )
        return Picture(Image.fromarray(shown.grey).convert("RGB"), facts)


@contextmanager
def _in_our_words(what: str, path: Path) -> Iterator[None]:
    """Whatever pydicom raises becomes a sentence that quotes nothing: its own may repeat the header. `from None` keeps
    it out of tracebacks too."""
    # By module and for good: `catch_warnings` is not safe in threads, and these quote odd values.
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    try:
        yield
    except LlavamedError:
        raise
    except NotImplementedError:
        raise PictureError("this DICOM file is compressed in a way that is not read", where=str(path)) from None
    except Exception:  # pydicom raises whatever a damaged element leads to
        raise PictureError(what, where=str(path)) from None


def _read_header(stream: BinaryIO, path: Path) -> Any:
    """The elements READ, with the stream left standing at the pixel element, of which there is one."""
    import pydicom

    header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=[*READ])
    if "Rows" not in header or "Columns" not in header:
        kind = str(header.file_meta.get("MediaStorageSOPClassUID", ""))
        known = [name for stem, name in NO_PICTURES.items() if kind == stem or (stem[-1] == "." and stem in kind)]
        raise PictureError(
            "this DICOM file holds no picture" + "".join(f": it is {name}" for name in known[:1]), where=str(path)
        )
    check_size(int(header.Columns), int(header.Rows), path)
    if not stream.read(1):
        raise PictureError("this DICOM file ends before its pixels, or has none", where=str(path))
    stream.seek(-1, 1)
    return header


def _interpretation(header: Any, path: Path) -> str:
    meaning, samples = str(header.PhotometricInterpretation), int(header.SamplesPerPixel)
    if (samples == 1 and meaning in (*GREY, "PALETTE COLOR")) or (samples == 3 and meaning in COLOURS):
        return meaning
    raise PictureError("this DICOM file's kind of colour is not read", where=str(path))


def _colour(stored: numpy.ndarray, header: Any, meaning: str) -> numpy.ndarray:
    """uint8 [rows, columns, 3]."""
    from pydicom.pixels import apply_color_lut

    if meaning == "PALETTE COLOR":
        colours = apply_color_lut(stored, header)
        return (colours >> 8 * (colours.dtype.itemsize - 1)).astype("uint8")
    return (stored >> max(0, int(header.BitsStored) - 8)).astype("uint8")


def _grey(stored: numpy.ndarray, header: Any, frame: int, view: View) -> _Window:
    """Black to white as a viewer shows it (PS3.3 C.11.1 and C.11.2), padding black."""
    padding = _padding(stored, header)
    values, deep = _rescale(stored, header, frame)
    shown = _spread(values, values if padding is None else values[~padding], header, frame, view.window, deep)
    grey = 255 - shown.grey if header.PhotometricInterpretation == "MONOCHROME1" else shown.grey
    if padding is not None:
        grey[padding] = 0
    return _Window(grey, shown.window, shown.notes)


def _spread(
    values: numpy.ndarray, inside: numpy.ndarray, header: Any, frame: int, asked: tuple[float, float] | None, deep: bool
) -> _Window:
    """inside: the values that are no padding. deep: they are more than 8 plain bits."""
    function = str(header.get("VOILUTFunction") or "LINEAR")
    if asked:
        return _Window(window_to_8_bit(values, *asked, function), asked)
    if tables := header.get("VOILUTSequence"):
        looked_up, bits = _look_up(values, tables[0], header)
        notes = (f"the first of {len(tables)} VOI tables in the header is applied",) if len(tables) > 1 else ()
        return _Window(scale_to_8_bit(looked_up, (0, 2**bits - 1)), notes=notes)
    carrier = _carrier(header, frame, "FrameVOILUTSequence", "WindowCenter")
    centres, widths = _numbers(carrier.get("WindowCenter")), _numbers(carrier.get("WindowWidth"))
    if centres and widths and widths[0] > 0:
        window = (centres[0], widths[0])
        grey = window_to_8_bit(values, *window, str(carrier.get("VOILUTFunction") or function))
        if grey.min() < grey.max() or not inside.size or inside.min() == inside.max():
            first = f"the first of {len(centres)} windows in the header is applied; --window picks another"
            return _Window(grey, window, (first,) if len(centres) > 1 else ())
        why = "the header's window shows nothing of it"
    elif not deep:
        return _Window(scale_to_8_bit(values, (0, 2 ** int(header.BitsStored) - 1)))
    else:
        why = "the header names no window"
    low, high = own_range(inside)
    note = f"{why}: scaled by its own range, {low:g} to {high:g}; --window picks another"
    return _Window(scale_to_8_bit(values, (low, high)), notes=(note,))


def _rescale(stored: numpy.ndarray, header: Any, frame: int) -> tuple[numpy.ndarray, bool]:
    """Values in the modality's units, and whether they are other than 8 bits or fewer as stored (PS3.3 C.11.1)."""
    if tables := header.get("ModalityLUTSequence"):
        return _look_up(stored, tables[0], header)[0], True
    carrier = _carrier(header, frame, "PixelValueTransformationSequence", "RescaleSlope")
    slope, intercept = _numbers(carrier.get("RescaleSlope")), _numbers(carrier.get("RescaleIntercept"))
    if slope and intercept and (slope[0], intercept[0]) != (1, 0):
        return stored.astype("float64") * slope[0] + intercept[0], True
    return stored, int(header.BitsStored) > 8 or int(header.PixelRepresentation) == 1 or stored.dtype.kind == "f"


def _padding(stored: numpy.ndarray, header: Any) -> numpy.ndarray | None:
    """Where pixels lie outside what was scanned, bool [rows, columns]; None where none do (PS3.3 C.7.5.1.1.2)."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return None
    limit = header.get("PixelPaddingRangeLimit")
    low, high = sorted((int(value), int(value if limit is None else limit)))
    padding: numpy.ndarray = (stored >= low) & (stored <= high)
    return padding if padding.any() and not padding.all() else None


def _look_up(values: numpy.ndarray, table: Any, header: Any) -> tuple[numpy.ndarray, int]:
    """Values through a LUT item, and the bits of what comes out. What lies before or after the table takes its ends."""
    import numpy

    count, first, bits = (int(part) for part in table.LUTDescriptor)
    entries = table.LUTData
    if isinstance(entries, bytes):
        little = header.original_encoding[1]
        entries = numpy.frombuffer(entries, dtype="<u2" if little else ">u2")
    entries = numpy.asarray(entries, dtype=numpy.int64)[: count or 1 << 16]
    return entries[numpy.clip(numpy.rint(values).astype(numpy.int64) - first, 0, len(entries) - 1)], bits


def _carrier(header: Any, frame: int, macro: str, element: str) -> Any:
    """The dataset that holds an element: the root, or, in an enhanced file, this frame's or the shared functional
    groups (PS3.3 C.7.6.16)."""
    if element in header:
        return header
    own = list(header.get("PerFrameFunctionalGroupsSequence") or ())[frame - 1 : frame]
    for group in (*own, *(header.get("SharedFunctionalGroupsSequence") or ())):
        for item in group.get(macro) or ():
            if element in item:
                return item
    return header


def _numbers(value: Any) -> list[float]:
    """A numeric element's values: none, one or several."""
    if value is None or value == "":
        return []
    many = value if isinstance(value, (list, tuple)) or hasattr(value, "insert") else [value]
    return [float(one) for one in many if one not in (None, "")]
