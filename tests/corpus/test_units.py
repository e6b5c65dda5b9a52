from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.corpus.units import Units

UNITS = Units(
    {
        "length": {"µm": 1e-3, "mm": 1, "cm": 10, "m": 1000},
        "area": {"mm2": 1, "cm2": 100},
        "time": {"month": 1 / 12, "year": 1},
        "energy": {"MeV": 1, "light year": 5},
        "share": {"%": 1},
    }
)


def keys(text: str) -> list[tuple[str | None, str]]:
    return [amount.key for amount in UNITS.amounts(text)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 cm", "50 mm"),
        ("5cm", "50-mm"),
        ("0.5 mm", "500 µm"),
        (".5 mm", "500 μm"),  # the micro sign, and the Greek letter
        ("1,200 mm", "1.2 m"),
        ("0·5 cm", "5 millimm 5 mm"[-4:]),
        ("12 months", "1 year"),
        ("a 1-year-old", "12 months"),
        ("2 cm²", "200 mm2"),
        ("2 cm^2", "2 CM2"),
        ("3 x 4 cm", "30 by 40 mm"),
        ("3×4×5 cm", "3, 4 and 5 cm"),
        ("5–10 mm", "from 5 mm to 1 cm"),
        ("5 to 10 mm", "5 mm or 10 mm"),
        ("two", "2"),
        ("×400", "400x"),
        ("Two light-years", "two light years"),
        ("T2-weighted", "t2 weighted"),
    ],
)
def test_equal_amounts_are_one(one: str, other: str) -> None:
    assert keys(one) == keys(other) != []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 cm", "5 mm"),
        ("5 cm", "5"),
        ("T1", "T2"),
        ("L4", "L5"),
        ("5 MeV", "5 mev"),
        ("5 mm", "5 mmHg"),
        ("5 mm", "5 mm2"),
    ],
)
def test_other_amounts_are_not(one: str, other: str) -> None:
    assert keys(one) != keys(other)


@pytest.mark.parametrize("text", ["", "one", "no number", "one of a kind", "1. First\n2) Second", "twofold"])
def test_what_is_no_amount_is_none(text: str) -> None:
    assert keys(text) == []


def test_a_unit_holds_for_the_numbers_joined_to_its_own_alone() -> None:
    assert keys("lesions 2 and 3 in 4 to 5 cm") == [(None, "2"), (None, "3"), ("length", "40"), ("length", "50")]


def test_every_number_has_a_bare_form() -> None:
    assert [amount.key for amount in UNITS.bare_numbers("3x4 cm at T2, two of 5%")] == [
        (None, number) for number in ("3", "4", "2", "5")
    ]


@given(st.integers(0, 10**6), st.sampled_from(["mm", "cm", "year", "%", "", "foo"]))
def test_a_number_is_found_whatever_stands_behind_it(number: int, unit: str) -> None:
    for written in (f"{number} {unit}", f"{number:,} {unit}"):
        assert [float(amount.key[1]) for amount in UNITS.bare_numbers(written)] == [float(f"{number:.6g}")]


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    assert len(UNITS.amounts(text)) >= len(list(UNITS.bare_numbers(text)))
