"""What a model's tokens cost, in whole picodollars, so that sums are exact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

from llavamed_cli.endpoint.journal import USD
from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.files import read_toml

TABLE = Path(__file__).with_name("prices.toml")
MILLION = 10**6
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True)
class Tokens:
    """How many are read from a request and written in answer to it."""

    read: int
    written: int

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.read + other.read, self.written + other.written)


@dataclass(frozen=True)
class Price:
    """Picodollars a token. half: as the Batch API charges."""

    read: int
    written: int
    half: bool = False

    def cost(self, tokens: Tokens) -> int:
        """Picodollars, rounded up."""
        full = self.read * tokens.read + self.written * tokens.written
        return (full + 1) // 2 if self.half else full


@dataclass(frozen=True)
class KnownModel:
    """A model of prices.toml. picture: the most tokens that it makes of one picture, where that is out of the usual."""

    price: Price
    reasoning: bool
    picture: int | None = None


def per_million(read: float, written: float, *, half: bool = False) -> Price:
    """The price whose US dollars per million tokens are these."""
    return Price(_per_token(read), _per_token(written), half)


def known_model(name: str) -> KnownModel | None:
    """The entry of `name` in prices.toml, with its date or without; None if there is none.

    Raises:
        DataError: prices.toml is not as it should be.
    """
    table = read_toml(TABLE, "table of prices")
    entry = table.get(name) or table.get(_DATE.sub("", name))
    if entry is None:
        return None
    try:
        price = per_million(entry["read"], entry["written"])
    except (KeyError, TypeError, ArithmeticError) as error:
        raise DataError(f"{name}: expected prices `read` and `written`", where=str(TABLE)) from error
    return KnownModel(price, entry.get("reasoning") is True, entry.get("picture"))


def parse_price(text: str | None, option: str = "--price") -> tuple[float, float] | None:
    """`READ,WRITTEN` as typed behind `option`, in US dollars per million tokens. Raises UsageError."""
    if text is None:
        return None
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: expected two numbers, e.g. {option} 2.50,10") from error
    if not (0 <= read < float("inf") and 0 <= written < float("inf")):
        raise UsageError(f"{option} {text}: expected two prices of 0 or more")
    return read, written


def told(picodollars: int) -> str:
    """A sum as a person reads it: cents, and more digits below one cent."""
    usd = picodollars / USD
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.2g}" if usd < 0.001 else f"${usd:.4f}"


def picodollars(usd: float) -> int:
    """A budget, rounded down."""
    return int(Decimal(repr(usd)) * USD)


def _per_token(per_million_tokens: float) -> int:
    return int((Decimal(repr(per_million_tokens)) * USD / MILLION).to_integral_value(ROUND_CEILING))
