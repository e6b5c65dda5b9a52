"""Deep grey levels become 256 by a stated rule: the range of the data, short of a few strays, or a window."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from llavamed_cli.model import grey_levels
from llavamed_cli.model.grey_levels import own_range, scale_to_8_bit, window_to_8_bit


def test_a_range_is_the_least_and_the_greatest_finite_value() -> None:
    values = numpy.array([[3.0, numpy.nan, 7.5], [numpy.inf, -numpy.inf, 4.0]])
    assert own_range(values) == (3.0, 7.5)
    assert list(scale_to_8_bit(values).ravel()) == [0, 0, 255, 255, 0, 57]


def test_a_flat_picture_is_black() -> None:
    assert not scale_to_8_bit(numpy.full((2, 3), 900)).any()
    assert not scale_to_8_bit(numpy.full((2, 3), numpy.nan)).any()


def test_a_few_hot_pixels_do_not_darken_the_rest() -> None:
    """A film of 12 bits with three burnt pixels at 65535, and one dead at the other end."""
    film = numpy.random.default_rng(0).integers(500, 3500, (100, 100))
    hot, dead = film.copy(), film.copy()
    hot[5, :3] = 65_535
    low, high = own_range(hot)
    assert low == film.min() and 3400 < high < 3500
    dead[9, 9] = -30_000
    low, high = own_range(dead)
    assert 500 < low < 600 and high == film.max()
    assert scale_to_8_bit(hot)[5, 0] == 255


def test_nothing_is_clipped_where_the_outermost_are_not_far_off() -> None:
    """A bright lesion of 0.05% is kept as bright as it is while it takes up less than half of the range."""
    film = numpy.random.default_rng(0).integers(0, 1000, (200, 200))
    film[0, :20] = 1900
    assert own_range(film) == (film.min(), 1900)


def test_a_small_mask_is_seen() -> None:
    mask = numpy.zeros((100, 100), dtype=numpy.uint16)
    mask[50, 50] = 1
    assert scale_to_8_bit(mask)[50, 50] == 255


@given(
    arrays.arrays(
        st.sampled_from([numpy.uint16, numpy.int16, numpy.int32, numpy.float32]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    )
)
def test_order_is_kept(values: numpy.ndarray) -> None:
    grey = scale_to_8_bit(values)
    assert grey.dtype == numpy.uint8
    known = ~numpy.isnan(values)
    order = numpy.argsort(values[known], kind="stable")
    assert (numpy.diff(grey[known][order].astype(int)) >= 0).all()


@pytest.mark.parametrize("dtype", [numpy.uint16, numpy.float32, numpy.int64])
def test_blocks_do_not_show(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    values = numpy.arange(35 * 11).reshape(35, 11).astype(dtype)
    whole = scale_to_8_bit(values)
    monkeypatch.setattr(grey_levels, "BLOCK", 23)
    assert (scale_to_8_bit(values) == whole).all()


def test_a_window_is_where_the_standard_says() -> None:
    """PS3.3 C.11.2.1.2.1, its example: centre 2048, width 4096 maps 0 to black and 4095 to white."""
    values = numpy.array([[-5, 0, 1024, 2048, 4095, 9000]])
    assert list(window_to_8_bit(values, 2048, 4096, "LINEAR")[0]) == [0, 0, 64, 128, 255, 255]
    assert list(window_to_8_bit(numpy.array([[0.0, 0.5, 1.0]]), 0.5, 1.0)[0]) == [0, 128, 255]


def test_a_window_of_one_level_is_a_threshold() -> None:
    """PS3.3 C.11.2.1.2.1: width 1 turns black into white at the centre."""
    grey = window_to_8_bit(numpy.array([[98, 99, 100, 101]]), 100, 1, "LINEAR")[0]
    assert list(grey[[0, 1, 3]]) == [0, 0, 255]


def test_a_sigmoid_window_saturates_without_overflow() -> None:
    grey = window_to_8_bit(numpy.array([[-1e9, 0.0, 1e9]]), 0, 10, "SIGMOID")[0]
    assert list(grey) == [0, 128, 255]
