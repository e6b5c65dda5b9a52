"""Ask a server about many items, several in flight, each journaled before it is sent and paid for once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Generic, Protocol

from llavamed_cli.endpoint.budget import OutOfBudgetError, Purse
from llavamed_cli.endpoint.estimate import estimate
from llavamed_cli.endpoint.in_order import map_in_order
from llavamed_cli.endpoint.journal import Answered, Journal, open_journal
from llavamed_cli.endpoint.pacing import Pace, Patience
from llavamed_cli.endpoint.pictures import MOST_PICTURE_TOKENS
from llavamed_cli.endpoint.prices import Price, known_model, per_million, picodollars, told
from llavamed_cli.endpoint.requests import Item, Message, Request, RequestForm
from llavamed_cli.endpoint.server import GO_ON, Endpoint, PassingError, open_endpoint, require_key, resolve_url
from llavamed_cli.endpoint.stopping import Stop, StoppedError
from llavamed_cli.errors import EndpointError, UsageError
from llavamed_cli.progress import Progress


class EndpointOptions(Protocol):
    """Which model is asked where, at what price.

    name: the model. base_url: None for OPENAI_BASE_URL of the environment, or OpenAI. budget: US dollars that are never
    passed. price: dollars per million tokens, read and written; None: from the table that comes with llavamed.
    concurrency: the most requests in flight.
    """

    @property
    def name(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def budget(self) -> float | None: ...
    @property
    def price(self) -> tuple[float, float] | None: ...
    @property
    def concurrency(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Asker(Generic[Item]):
    """A server that is asked about items of one kind. noun: what they are called where a budget does not reach."""

    endpoint: Endpoint
    journal: Journal
    purse: Purse
    form: RequestForm[Item]
    pace: Pace
    stop: Stop
    concurrency: int
    progress: Progress
    noun: str
    _asking: OneAtATime = field(default_factory=lambda: OneAtATime())

    def answers(self, items: Iterable[Item]) -> Iterator[Answered]:
        """Every item's answer, in order; what the journal holds is not asked again.

        Raises:
            EndpointError: the server fails for good, or the budget is reached. KeyboardInterrupt: Ctrl-C or SIGTERM.
            In either case what was in flight has been awaited, and every answer is in the journal.
        """
        rest, begun = iter(items), deque[Item]()

        def begin() -> Iterator[Item]:
            for item in rest:
                begun.append(item)
                yield item

        with self.stop.on_signals(self.progress):
            try:
                for answered in map_in_order(self._answer, begin(), threads=self.concurrency):
                    begun.popleft()
                    yield answered
            except StoppedError:
                raise self.stop.reason() from None
            except OutOfBudgetError:
                raise budget_reached(self.purse, self.form, chain(begun, rest), self.noun) from None

    def _answer(self, item: Item) -> Answered:
        try:
            request = self.form.request(item)
            with self._asking(request.key):
                return self.journal.answer(request.key) or self._send(request)
        except (StoppedError, OutOfBudgetError):
            raise
        except Exception as fault:
            self.stop.fail(fault)
            raise

    def _send(self, request: Request) -> Answered:
        for tries in count(1):
            self.pace.enter(request.key)
            send = self.purse.reserve(request, self.stop)
            try:
                answered, headers = self.endpoint.ask(request)
            except PassingError as fault:
                self.purse.give_back(send, fault.what, charged=fault.charged)
                wait = self.pace.after_refusal if fault.refused else self.pace.after_fault
                if not wait(fault.wait, tries, request.key):
                    asked = f" (it asks to wait {fault.wait:,.0f} s)" if fault.wait else ""
                    raise EndpointError(f"gave up after {tries} tries: {fault.what}{asked}", hint=GO_ON) from fault
            except EndpointError as error:
                self.purse.give_back(send, error.what, charged=False)
                raise
            except BaseException as error:
                self.purse.give_back(send, repr(error), charged=True)
                raise
            else:
                self.pace.answered(headers)
                self.purse.settle(send, request, answered)
                return answered
        raise AssertionError  # count() does not end


@contextmanager
def open_asker(
    options: EndpointOptions,
    form: RequestForm[Item],
    journal: Path,
    progress: Progress,
    *,
    noun: str,
    other_journals: Sequence[Path] = (),
    patience: Patience | None = None,
) -> Iterator[Asker[Item]]:
    """Open the journal, begun if absent, and connect to the server.

    Args:
        other_journals: of other runs, whose answers need not be paid for again.

    Raises:
        UsageError: no key, no address, a budget without a price, or another process at work with the journal.
        DataError: the journal is damaged.
    """
    patience = patience or Patience()
    price = check_endpoint(options)
    with (
        open_journal(journal, other_journals) as opened,
        open_endpoint(options.name, form.url, answer_seconds=patience.answer) as endpoint,
    ):
        stop = Stop()
        yield Asker(
            endpoint=endpoint,
            journal=opened,
            purse=Purse(opened, price, budget_of(options)),
            form=form,
            pace=Pace(patience, stop),
            stop=stop,
            concurrency=options.concurrency,
            progress=progress,
            noun=noun,
        )


def form_requests(
    options: EndpointOptions, messages: Callable[[Item], Sequence[Message]], *, most_written: int, likely_written: int
) -> RequestForm[Item]:
    """How the model that `options` name is asked."""
    known = known_model(options.name)
    return RequestForm(
        model=options.name,
        url=resolve_url(options.base_url),
        messages=messages,
        most_written=most_written,
        likely_written=likely_written,
        reasoning=known.reasoning if known else False,
        picture_tokens=(known.picture if known else None) or MOST_PICTURE_TOKENS,
    )


def check_endpoint(options: EndpointOptions) -> Price | None:
    """What the model costs; found beforehand is what would stop a run at once.

    Raises:
        UsageError: no key, no address, or a budget without a price.
    """
    require_key(options.name, resolve_url(options.base_url))
    price = price_of(options)
    if options.budget is not None and price is None:
        raise UsageError(
            f"--budget cannot be kept: what {options.name} costs is unknown",
            hint="Add --price READ,WRITTEN in US dollars per million tokens (0,0 for a server of your own).",
        )
    return price


def price_of(options: EndpointOptions, *, half: bool = False) -> Price | None:
    """As typed, or as known; None where it is unknown. half: as the Batch API charges."""
    if options.price is not None:
        return per_million(*options.price, half=half)
    known = known_model(options.name)
    return Price(known.price.read, known.price.written, half) if known else None


def budget_of(options: EndpointOptions) -> int | None:
    """The budget in picodollars."""
    return None if options.budget is None else picodollars(options.budget)


def budget_reached(purse: Purse, form: RequestForm[Item], left: Iterable[Item], noun: str) -> EndpointError:
    """The fault that says what is left undone, and what it would cost."""
    rest = estimate(left, form, purse.journal, purse.price, noun)
    return EndpointError(
        f"the budget of {told(purse.limit or 0)} does not reach for the next request: {told(purse.journal.committed)} "
        f"are spent, and {rest.items - rest.answered} {noun} are left ({rest.text()})",
        where="--budget",
        hint=f"Repeat the command with a larger --budget. {GO_ON}",
    )


class OneAtATime:
    """Lets one thread in per name: items that ask the same (panels of one figure) are asked about once."""

    def __init__(self) -> None:
        self._inside: set[str] = set()
        self._change = threading.Condition()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        with self._change:
            self._change.wait_for(lambda: name not in self._inside)
            self._inside.add(name)
        try:
            yield
        finally:
            with self._change:
                self._inside.discard(name)
                self._change.notify_all()
