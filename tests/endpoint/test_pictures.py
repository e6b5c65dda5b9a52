"""What is sent of a picture: its pixels, and nothing else of its file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image, PngImagePlugin

from llavamed_cli.endpoint.pictures import (
    LIKELY_PICTURE_TOKENS,
    MOST_PICTURE_TOKENS,
    SIDE,
    is_picture,
    picture_part,
    text_part,
)
from llavamed_cli.endpoint.requests import RequestForm

SECRET = "DOE^JANE"


def sent(part: dict[str, Any]) -> tuple[str, bytes]:
    """The kind and the bytes of a data URL."""
    head, _, data = part["image_url"]["url"].partition(",")
    assert part["type"] == "image_url" and head.startswith("data:image/") and head.endswith(";base64")
    return head[len("data:image/") : -len(";base64")], base64.b64decode(data, validate=True)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=numpy.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1"])
def test_pixels_arrive_as_they_are(mode: str) -> None:
    image = noise(40, 30).convert(mode)
    kind, data = sent(picture_part(image))
    assert kind == "png"
    assert numpy.array_equal(numpy.asarray(Image.open(io.BytesIO(data))), numpy.asarray(image.convert("RGB")))


@pytest.mark.parametrize("name", ["scan.png", "scan.jpg", "scan.tif"])
def test_nothing_else_of_the_file_leaves(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{SECRET}-{name}"
    exif = Image.Exif()
    exif[0x010E] = exif[0x8298] = SECRET  # ImageDescription, Copyright
    text = PngImagePlugin.PngInfo()
    text.add_text("PatientName", SECRET)
    noise(64, 64).save(path, exif=exif, pnginfo=text, comment=SECRET, icc_profile=SECRET.encode() * 30, dpi=(71, 71))
    assert SECRET.encode() in path.read_bytes()
    with Image.open(path) as opened:
        opened.load()
        _, data = sent(picture_part(opened))
    assert SECRET.encode() not in data
    again = Image.open(io.BytesIO(data))
    assert not again.info and not again.getexif()


def test_a_large_picture_is_made_smaller_in_its_own_shape() -> None:
    for width, height in ((3000, 1500), (1500, 3000), (9000, 2)):
        _, data = sent(picture_part(Image.new("RGB", (width, height), "red")))
        found = Image.open(io.BytesIO(data))
        assert max(found.size) == SIDE
        assert found.width / found.height == pytest.approx(width / height) or min(found.size) == 1


def test_what_would_be_many_megabytes_is_a_fine_jpeg() -> None:
    image = noise(1600, 1600)
    kind, data = sent(picture_part(image))
    assert kind == "jpeg" and len(data) < 6 * 2**20
    found = numpy.asarray(Image.open(io.BytesIO(data)), dtype=float)
    assert numpy.abs(found - numpy.asarray(image, dtype=float)).mean() < 5


def test_a_request_counts_texts_by_bytes_and_pictures_by_their_most() -> None:
    content = [picture_part(noise(9, 9)), text_part("Is it? \udc80"), picture_part(noise(8, 8))]
    assert [is_picture(part) for part in content] == [True, False, True]

    def request(content: Any) -> Any:
        return RequestForm[int](
            model="m",
            url="http://x/v1",
            messages=lambda _: [{"role": "user", "content": content}],
            most_written=8,
            likely_written=2,
        ).request(0)

    pictured, plain = request(content), request("Is it? \udc80")
    assert pictured.bound.read == plain.bound.read + 2 * MOST_PICTURE_TOKENS
    assert pictured.likely.read == plain.likely.read + 2 * LIKELY_PICTURE_TOKENS
    assert pictured.body["messages"][0]["content"][1]["text"] == "Is it? ?"
    assert pictured.key == request(content).key != request(content[:2]).key


def test_the_most_tokens_are_more_than_published_models_take() -> None:
    tiles = 85 + 170 * 8  # gpt-4o, https://platform.openai.com/docs/guides/images
    merged = (SIDE // 28 + 1) ** 2  # Qwen2-VL, a token for 28 x 28 pixels
    anyres = 576 * 5, 729 * 10, 256 * 13  # LLaVA-1.6, LLaVA-OneVision, InternVL
    assert max(tiles, merged, *anyres, (SIDE // 16) ** 2) < MOST_PICTURE_TOKENS
