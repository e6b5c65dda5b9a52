"""A purse that is never overdrawn: each send is reserved at its worst cost before it leaves, and settled after.

What a request costs at worst is some times what it will: near its limit the purse waits for what is in flight to be
settled, and is empty only when nothing is in flight and the next request still does not fit.
"""

from __future__ import annotations

import threading
from typing import Any

from llavamed_cli.endpoint.journal import USD, Answered, Journal
from llavamed_cli.endpoint.prices import Price, Tokens, told
from llavamed_cli.endpoint.requests import Request
from llavamed_cli.endpoint.stopping import Stop

LOOK_UP_SECONDS = 0.5
"""How often one that waits for room looks whether a stop was asked for."""


class OutOfBudgetError(Exception):
    """The next request would pass the budget."""


class Purse:
    """The journal's money. price: None where it is unknown, and nothing is counted but tokens. limit: picodollars."""

    def __init__(self, journal: Journal, price: Price | None, limit: int | None) -> None:
        self.journal, self.price, self.limit = journal, price, limit
        self._room = threading.Condition()
        self._in_flight = 0
        self._empty = False

    def cost(self, tokens: Tokens) -> int:
        """Picodollars; 0 where the price is unknown."""
        return self.price.cost(tokens) if self.price else 0

    def reserve(self, request: Request, stop: Stop) -> int:
        """Reserve a send's worst cost, waiting for room while other sends are in flight; the send's number.

        Raises:
            OutOfBudgetError: here, and in every thread from then on. StoppedError.
        """
        costs = {request.key: self.cost(request.bound)}
        with self._room:
            while True:
                stop.wait(0)
                if self._empty:
                    raise OutOfBudgetError
                if sends := self.journal.reserve(costs, self.limit):
                    self._in_flight += 1
                    return sends[0]
                if not self._in_flight:
                    self._empty = True
                    self._room.notify_all()
                    raise OutOfBudgetError
                self._room.wait(LOOK_UP_SECONDS)

    def settle(self, send: int, request: Request, answered: Answered) -> None:
        """The send was answered."""
        try:
            self.journal.settle(send, request.key, answered, self.cost(Tokens(answered.read, answered.written)))
        finally:
            self._landed()

    def give_back(self, send: int, why: str, *, charged: bool) -> None:
        """The send was not answered. charged: it may have been paid for all the same, and stays counted."""
        try:
            if charged:
                self.journal.doubt(send, why)
            else:
                self.journal.release(send, why)
        finally:
            self._landed()

    def _landed(self) -> None:
        with self._room:
            self._in_flight -= 1
            self._room.notify_all()

    def spent(self) -> dict[str, Any]:
        """Requests, tokens and US dollars, by name, and `told`: the same in one line."""
        spent = self.journal.spent()
        line = f"{spent.answers} answers, {spent.read + spent.written:,} tokens"
        line += f", {told(spent.cost)}" if self.price else ", price unknown"
        if spent.doubts:
            line += f" (of it up to {told(spent.doubtful)} for {spent.doubts} requests of unknown fate)"
        if spent.estimated:
            line += f"; the server gave no token counts for {spent.estimated}, which are counted at their most"
        return {
            "answers": spent.answers,
            "tokens_read": spent.read,
            "tokens_written": spent.written,
            "usd": spent.cost / USD if self.price else None,
            "usd_in_doubt": spent.doubtful / USD if self.price else None,
            "estimated": spent.estimated,
            "told": line,
        }
