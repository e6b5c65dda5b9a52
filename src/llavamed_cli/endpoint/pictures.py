"""A picture as it is sent to a server: its pixels in a data URL, and nothing else that its file held.

What leaves is encoded anew from RGB, so no file name, no EXIF, no DICOM header and no colour profile can. A picture is
sent as it is up to SIDE pixels a side and made smaller beyond, as servers do themselves; PNG, which is exact, or a fine
JPEG where that would be many megabytes.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 2048
"""Pixels: what OpenAI's models take at most at high detail (https://platform.openai.com/docs/guides/images)."""
PNG_BYTES = 4 * 2**20
JPEG_QUALITY = 95
SMALLEST_PATCH = 14
"""Pixels of a picture that become one token where a tower merges none (ViT-L/14)."""
MOST_PICTURE_TOKENS = (SIDE // SMALLEST_PATCH + 1) ** 2
"""More than any model in use makes of a picture of SIDE pixels, gpt-4o-mini apart (see prices.toml): what a send is
reserved at, until the server says what it took."""
LIKELY_PICTURE_TOKENS = 1024

Part = dict[str, Any]
"""A piece of a message's content: {"type": "text", "text"} or {"type": "image_url", "image_url": {"url"}}."""


def picture_part(image: Image) -> Part:
    """The picture as a piece of a message's content, after OpenAI's form, which other servers share."""
    return {"type": "image_url", "image_url": {"url": _data_url(image)}}


def text_part(text: str) -> Part:
    """A text beside pictures."""
    return {"type": "text", "text": text}


def is_picture(part: Part) -> bool:
    """Whether a piece of content is a picture."""
    return part.get("type") == "image_url"


def _data_url(image: Image) -> str:
    data, kind = _encoded(_fitted(image))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _fitted(image: Image) -> Image:
    """Pixels alone, at most SIDE a side."""
    from PIL import Image

    pixels = image.convert("RGB")
    if max(pixels.size) > SIDE:
        width, height = (max(1, round(side * SIDE / max(pixels.size))) for side in pixels.size)
        pixels = pixels.resize((width, height), Image.Resampling.LANCZOS)
    bare = Image.new("RGB", pixels.size)  # without `info`, which encoders write out
    bare.paste(pixels)
    return bare


def _encoded(image: Image) -> tuple[bytes, str]:
    exact = io.BytesIO()
    image.save(exact, "PNG")
    if exact.tell() <= PNG_BYTES:
        return exact.getvalue(), "png"
    fine = io.BytesIO()
    image.save(fine, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return fine.getvalue(), "jpeg"
