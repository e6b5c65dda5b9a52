"""The stored values of one DICOM frame, whatever they are compressed by; nothing of the other frames is decoded.

Decoders here meet strangers' files, so they are picked for surviving damage: Pillow for baseline JPEG and JPEG 2000,
libjpeg-turbo and CharLS (through imagecodecs) for 12-bit and lossless JPEG and for JPEG-LS, pydicom for the rest. GDCM
decodes as much, and was left out: a damaged byte makes it abort the whole process.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from llavamed_cli.errors import PictureError

if TYPE_CHECKING:
    import numpy

MAX_INFLATED = 1 << 30
"""Bytes that a deflated file may unpack to: a megabyte of it can ask for a gigabyte."""
META_START = 132
"""A DICOM file's preamble and its magic; then comes the meta header, whose first element says how long it is."""
META_LENGTH_ELEMENT = 12
ENCAPSULATED_HEADER = 12
"""Bytes of the pixel element's tag, type and length, in every compressed syntax (PS3.5, A.4)."""
FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
"""SOF0 to SOF15 of JPEG (ISO 10918-1, table B.1) and SOF55 of JPEG-LS (ISO 14495-1, C.1.1)."""


def open_inflated(path: Path) -> BinaryIO:
    """The file, or, of a deflated one, its content as an explicit little endian file in memory (PS3.5, A.5).

    Raises:
        PictureError: it unpacks to more than MAX_INFLATED bytes.
    """
    from pydicom.filereader import read_file_meta_info
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return path.open("rb")
    packed = path.read_bytes()[META_START + META_LENGTH_ELEMENT + int(meta.FileMetaInformationGroupLength) :]
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, MAX_INFLATED + 1)
    if len(inflated) > MAX_INFLATED:
        raise PictureError(f"unpacks to more than {MAX_INFLATED:,} bytes", where=str(path))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole = BytesIO()
    whole.write(bytes(META_START - 4) + b"DICM")
    write_file_meta_info(cast(Any, whole), meta, enforce_standard=False)  # any binary stream will do
    whole.write(inflated)
    whole.seek(0)
    return whole


def decode_frame(stream: BinaryIO, header: Any, frame: int) -> numpy.ndarray:
    """Stored values [rows, columns], or RGB [rows, columns, 3], of a frame counted from 1.

    stream: stands at the pixel element. header: the dataset before it.

    Raises:
        NotImplementedError: a syntax that nothing here decodes (video). RuntimeError, ValueError and others: damage.
    """
    from pydicom import uid
    from pydicom.pixels import pixel_array

    syntax = header.file_meta.TransferSyntaxUID
    if syntax in (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1):
        return _decode_jpeg(stream, header, frame, "jpeg8_decode")
    if syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
        return _decode_jpeg(stream, header, frame, "jpegls_decode")
    by_pillow = syntax in (uid.JPEGBaseline8Bit, uid.JPEG2000, uid.JPEG2000Lossless)
    values: numpy.ndarray = pixel_array(stream, index=frame - 1, decoding_plugin="pillow" if by_pillow else "")
    return values


def _decode_jpeg(stream: BinaryIO, header: Any, frame: int, decoder: str) -> numpy.ndarray:
    """A frame by one of imagecodecs' decoders, signed and coloured as the header says."""
    import imagecodecs
    import numpy
    from pydicom.encaps import get_frame
    from pydicom.pixels import convert_color_space

    stream.seek(ENCAPSULATED_HEADER, 1)
    encoded = get_frame(stream, frame - 1, number_of_frames=int(header.get("NumberOfFrames") or 1))
    shape = (int(header.Rows), int(header.Columns))
    if jpeg_size(encoded) != shape:
        raise ValueError("the frame's own size is not the header's")
    if header.SamplesPerPixel == 3:
        kept = {"colorspace": "RGB", "outcolorspace": "RGB"} if decoder == "jpeg8_decode" else {}
        colours = getattr(imagecodecs, decoder)(encoded, **kept).reshape(*shape, 3)
        kind = header.PhotometricInterpretation
        return colours if kind == "RGB" else convert_color_space(colours, kind, "RGB")
    values: numpy.ndarray = getattr(imagecodecs, decoder)(encoded).reshape(shape)
    stored = int(header.BitsStored)
    if header.PixelRepresentation == 1:
        unused = 8 * values.dtype.itemsize - stored
        return (values.view(f"i{values.dtype.itemsize}") << unused) >> unused
    # A lossy decoder overshoots: 1024 in a picture of 10 bits is as white as 1023, and no black.
    return numpy.minimum(values, (1 << stored) - 1)


def jpeg_size(encoded: bytes) -> tuple[int, int]:
    """(rows, columns) that a JPEG or JPEG-LS stream names, read before a decoder makes room for them.

    Raises:
        ValueError: no frame header, or no end: the stream is cut.
    """
    if not encoded.rstrip(b"\0\xff").endswith(b"\xff\xd9"):  # padded to an even length by either
        raise ValueError("the stream has no end")
    place = 2
    while place + 9 <= len(encoded) and encoded[place] == 0xFF:
        if encoded[place + 1] in FRAME_MARKERS:
            return int.from_bytes(encoded[place + 5 : place + 7], "big"), int.from_bytes(
                encoded[place + 7 : place + 9], "big"
            )
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    raise ValueError("the stream has no frame header")
