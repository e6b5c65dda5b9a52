"""A teacher behind an OpenAI-compatible endpoint, asked by chat calls, many in flight, each paid for once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.in_order import map_in_order
from llavamed_cli.corpus.teacher.budget import OutOfBudgetError, Purse
from llavamed_cli.corpus.teacher.endpoint import GO_ON, Endpoint, PassingError
from llavamed_cli.corpus.teacher.estimate import estimate
from llavamed_cli.corpus.teacher.journal import Answered, Journal
from llavamed_cli.corpus.teacher.pacing import Pace
from llavamed_cli.corpus.teacher.prices import told
from llavamed_cli.corpus.teacher.requests import CUT, Request, RequestForm
from llavamed_cli.corpus.teacher.stopping import Stop, StoppedError
from llavamed_cli.corpus.teacher.teaching import Drop, Taught
from llavamed_cli.errors import TeacherError
from llavamed_cli.progress import Progress
from llavamed_cli.records import Figure

Parse = Callable[[str, Figure], Taught]


def taught(answered: Answered, figure: Figure, parse: Parse) -> Taught:
    """What an answer teaches. Of one that was cut, the last exchange goes too: where it stops is chance."""
    if answered.text is None:
        return Taught(drops=(Drop(answered.fault or "", answered.detail),))
    whole = parse(answered.text, figure)
    if answered.fault == CUT:
        return Taught(whole.exchanges[:-1], (*whole.drops, Drop(CUT)))
    return whole


@dataclass(frozen=True, kw_only=True)
class ChatTeacher:
    """A Teacher. parse: makes a checked conversation of an answer, of which the journal keeps the text alone."""

    endpoint: Endpoint
    journal: Journal
    purse: Purse
    form: RequestForm
    parse: Parse
    pace: Pace
    stop: Stop
    concurrency: int
    progress: Progress
    _asking: OneAtATime = field(default_factory=lambda: OneAtATime())

    def teach(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Taught]]:
        """See Teacher.

        Raises:
            TeacherError: the server fails for good, or the budget is reached. KeyboardInterrupt: Ctrl-C or SIGTERM.
            In either case what was in flight has been awaited, and every answer is in the journal.
        """
        rest, begun = iter(candidates), deque[Candidate]()

        def begin() -> Iterator[Candidate]:
            for candidate in rest:
                begun.append(candidate)
                yield candidate

        with self.stop.on_signals(self.progress):
            try:
                for answered in map_in_order(self._answer, begin(), threads=self.concurrency):
                    candidate = begun.popleft()
                    yield candidate, taught(answered, candidate.figure, self.parse)
            except StoppedError:
                raise self.stop.reason() from None
            except OutOfBudgetError:
                raise budget_reached(self.purse, self.form, chain(begun, rest)) from None

    def spent(self) -> dict[str, Any]:
        """See Teacher."""
        return self.purse.spent()

    def _answer(self, candidate: Candidate) -> Answered:
        try:
            request = self.form.request(candidate.figure)
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
                    raise TeacherError(f"gave up after {tries} tries: {fault.what}{asked}", hint=GO_ON) from fault
            except TeacherError as error:
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


def budget_reached(purse: Purse, form: RequestForm, left: Iterable[Candidate]) -> TeacherError:
    """The fault that says what is left undone, and what it would cost."""
    rest = estimate((candidate.figure for candidate in left), form, purse.journal, purse.price)
    return TeacherError(
        f"the budget of {told(purse.limit or 0)} does not reach for the next request: {told(purse.journal.committed)} "
        f"are spent, and {rest.figures - rest.answered} figures are left ({rest.text()})",
        where="--budget",
        hint=f"Repeat the command with a larger --budget. {GO_ON}",
    )


class OneAtATime:
    """Lets one thread in per name: figures that share their text (panels of one figure) are asked about once."""

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
