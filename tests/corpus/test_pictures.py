from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from llavamed_cli.corpus.pictures import Drawing, keep_drawing, keep_picture, picture_size, safe_stem
from llavamed_cli.errors import PictureError
from llavamed_cli.model.images import open_picture

Draw = Callable[..., Path]


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGB"), ("a.jpg", "L"), ("a.jpg", "RGB")])
def test_a_plain_picture_keeps_its_bytes(name: str, mode: str, tmp_path: Path, draw: Draw) -> None:
    source = draw(tmp_path / name, mode=mode)
    kept = tmp_path / "images" / keep_picture(source, "x", tmp_path / "images")
    assert kept.read_bytes() == source.read_bytes()
    assert kept.suffix == source.suffix


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "P"), ("a.png", "RGBA"), ("a.jpg", "CMYK"), ("a.tif", "RGB"), ("a.webp", "RGB")]
)
def test_any_other_becomes_the_png_that_training_would_see(name: str, mode: str, tmp_path: Path, draw: Draw) -> None:
    source = draw(tmp_path / name, mode=mode)
    kept = tmp_path / "images" / keep_picture(source, "x", tmp_path / "images")
    with Image.open(kept) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert picture.tobytes() == open_picture(source).tobytes()


def test_a_name_tells_the_bytes_and_the_true_format(tmp_path: Path, draw: Draw) -> None:
    one, other = draw(tmp_path / "1.jpg", seed=1), draw(tmp_path / "2.jpg", seed=2)
    misnamed = tmp_path / "3.png"
    misnamed.write_bytes(one.read_bytes())
    names = [keep_picture(path, "x", tmp_path / "images") for path in (one, other, misnamed)]
    assert names[0] == names[2] != names[1]
    assert names[2].endswith(".jpg")


def test_what_is_there_is_not_read_again(tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    source = draw(tmp_path / "a.tif")
    name = keep_picture(source, "x", tmp_path / "images")

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("llavamed_cli.corpus.pictures.open_picture", refuse)
    assert keep_picture(source, "x", tmp_path / "images") == name


@given(st.text())
def test_a_stem_is_safe_on_any_file_system(text: str) -> None:
    stem = safe_stem(text)
    assert 0 < len(stem) <= 80
    assert stem.isascii() and not stem.startswith(".")
    assert not set(stem) & set('/\\:*?"<>| \0')


def test_a_drawing_is_drawn_once(tmp_path: Path) -> None:
    drawn = []

    def drawing() -> Image.Image:
        drawn.append(1)
        return Image.new("L", (8, 8), 7)

    names = {keep_drawing(Drawing("phantom/1", drawing), tmp_path) for _ in range(2)}
    assert names == {"phantom_1.png"} and drawn == [1]


GOOD = (
    "cmyk.jpg",
    "gray16.png",
    "gray16.tif",
    "float32.tif",
    "exif_orientation_6.jpg",
    "palette_alpha.png",
    "animated.gif",
    "multipage.tif",
    "lossy.webp",
    "jpeg_named.png",
)
BAD = (
    "bad_crc.png",
    "truncated.png",
    "truncated_half.jpg",
    "random_bytes.jpg",
    "html_named.jpg",
    "empty.jpg",
    "bomb_20000x20000.png",
)


@pytest.mark.parametrize("name", GOOD)
def test_difficult_pictures_are_kept_readable(name: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "edge_images" / name
    kept = tmp_path / keep_picture(source, name, tmp_path)
    assert open_picture(kept).tobytes() == open_picture(source).tobytes()


@pytest.mark.parametrize("name", BAD)
def test_broken_pictures_are_refused_and_leave_nothing(name: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "edge_images" / name
    with pytest.raises(PictureError):
        picture_size(source)
        keep_picture(source, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_is_refused_by_its_header(shared: Path, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(PictureError, match="more pixels"):
        picture_size(shared / "data" / "edge_images" / "bomb_20000x20000.png")
    assert picture_size(shared / "data" / "edge_images" / "very_tall_2x700.png") == (2, 700)
    assert not recwarn
