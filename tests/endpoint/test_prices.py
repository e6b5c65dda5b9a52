from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llavamed_cli.endpoint.prices import TABLE, Price, Tokens, known_model, per_million, told
from llavamed_cli.files import read_toml


def test_a_million_tokens_cost_what_the_table_says() -> None:
    known = known_model("gpt-4o-mini")
    assert known is not None and not known.reasoning
    assert known.price.cost(Tokens(10**6, 0)) == 15 * 10**10
    assert known.price.cost(Tokens(0, 10**6)) == 60 * 10**10


def test_a_dated_name_is_its_model_unless_it_has_a_price_of_its_own() -> None:
    undated, dated, early = map(known_model, ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-05-13"))
    assert undated is not None and dated == undated and early is not None
    assert early.price.read == 2 * undated.price.read
    assert known_model("gpt-4o-huge") is None and known_model("smollm2") is None


def test_every_entry_of_the_table_is_whole() -> None:
    for name, entry in read_toml(TABLE, "prices").items():
        assert set(entry) <= {"read", "written", "reasoning", "picture"}, name
        known = known_model(name)
        assert known is not None and 0 < known.price.read <= known.price.written, name


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**6), st.integers(0, 10**6))
def test_half_a_price_is_half_rounded_up(read: int, written: int, price: int, other: int) -> None:
    full = Price(price, other).cost(Tokens(read, written))
    half = Price(price, other, half=True).cost(Tokens(read, written))
    assert 0 <= 2 * half - full <= 1


def test_a_price_finer_than_a_picodollar_is_rounded_up() -> None:
    assert per_million(0.0000001, 0).read == 1
    assert per_million(0.15, 2.5) == Price(150_000, 2_500_000)


@pytest.mark.parametrize(
    ("usd", "text"), [(0, "$0.00"), (1234.5, "$1,234.50"), (0.1, "$0.10"), (0.0123, "$0.0123"), (0.00012, "$0.00012")]
)
def test_money_as_it_is_told(usd: float, text: str) -> None:
    assert told(round(usd * 1e12)) == text
