"""What asking would take before it is begun, or what is left of it: requests, tokens, US dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from llavamed_cli.endpoint.journal import USD, Journal
from llavamed_cli.endpoint.prices import Price, Tokens, told
from llavamed_cli.endpoint.requests import Item, RequestForm


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """items: looked at, of which `answered` need no request. likely, most: tokens. price: None where unknown.

    noun: what the items are called.
    """

    noun: str
    items: int
    answered: int
    requests: int
    likely: Tokens
    most: Tokens
    price: Price | None

    @property
    def usd(self) -> tuple[float, float] | None:
        """What it will cost about, and at most; None where the price is unknown."""
        return (self.price.cost(self.likely) / USD, self.price.cost(self.most) / USD) if self.price else None

    def text(self) -> str:
        """One line for a person."""
        line = f"{self.requests} requests, about {self.likely.read + self.likely.written:,} tokens"
        if self.price:
            line += f", about {told(self.price.cost(self.likely))}, at most {told(self.price.cost(self.most))}"
        else:
            line += ", price unknown (--price READ,WRITTEN names it)"
        return line + (f"; {self.answered} {self.noun} are answered already" if self.answered else "")

    def to_json(self) -> dict[str, Any]:
        """The same for a machine."""
        return {
            self.noun: self.items,
            "answered": self.answered,
            "requests": self.requests,
            "tokens_likely": [self.likely.read, self.likely.written],
            "tokens_most": [self.most.read, self.most.written],
            "usd_likely": self.usd[0] if self.usd else None,
            "usd_most": self.usd[1] if self.usd else None,
        }


def estimate(
    items: Iterable[Item], form: RequestForm[Item], journal: Journal | None, price: Price | None, noun: str
) -> Estimate:
    """Count what `items` ask for that `journal` does not hold; those that ask the same are asked about once."""
    looked_at, answered = 0, 0
    likely, most = Tokens(0, 0), Tokens(0, 0)
    asked: set[bytes] = set()
    for item in items:
        looked_at += 1
        request = form.request(item)
        key = bytes.fromhex(request.key)
        if journal is not None and journal.answer(request.key) is not None:
            answered += 1
        elif key not in asked:
            asked.add(key)
            likely, most = likely + request.likely, most + request.bound
    return Estimate(
        noun=noun, items=looked_at, answered=answered, requests=len(asked), likely=likely, most=most, price=price
    )
