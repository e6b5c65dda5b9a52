"""A teacher asked by the Batch API, at half price, within a day: upload, create, poll, collect.

The process may die between any two steps (batch_journal.py): a file or batch that reached the server is found again by
its tag. All figures are looked at before the first is yielded; they wait in a file beside the journal.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.teacher.batch_files import PATH, read_outcomes, request_line
from llavamed_cli.corpus.teacher.batch_journal import CREATED, PLANNED, Batch, BatchJournal, Outcome
from llavamed_cli.corpus.teacher.chat_api import Parse, taught
from llavamed_cli.corpus.teacher.teaching import Taught
from llavamed_cli.endpoint.asking import Asker, budget_reached
from llavamed_cli.endpoint.budget import OutOfBudgetError
from llavamed_cli.endpoint.journal import Answered
from llavamed_cli.endpoint.requests import Request
from llavamed_cli.endpoint.server import GO_ON, PassingError
from llavamed_cli.endpoint.stopping import StoppedError
from llavamed_cli.errors import EndpointError
from llavamed_cli.records import Figure

if TYPE_CHECKING:
    from openai.types import Batch as RemoteBatch

REQUESTS_PER_BATCH, BYTES_PER_BATCH = 5_000, 32 * 2**20
"""Well below OpenAI's 50,000 and 200 MB: a batch is held in memory, and smaller ones come back sooner."""
WINDOW = "24h"
TAG = "llavamed"
PAGE = 100
FAILURES = 3
"""Times that a request may come back with a fault of the server before its record is left out."""
FAILED = "the server failed on it"
DONE = ("completed", "expired", "cancelled", "failed")
QUEUE_FULL = "token_limit_exceeded"


@dataclass(kw_only=True)
class BatchTeacher:
    """A Teacher. asker: its purse is at half price.

    size: the most requests a batch; halved where the server's queue takes no more.
    """

    asker: Asker[Figure]
    parse: Parse
    size: int = REQUESTS_PER_BATCH

    def __post_init__(self) -> None:
        self._batches = BatchJournal(self.asker.journal)

    def teach(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Taught]]:
        """See Teacher.

        Raises:
            EndpointError: the server fails for good, or the budget is reached.
            KeyboardInterrupt: Ctrl-C or SIGTERM; batches go on at the server, and the same command collects them.
        """
        with (
            self.asker.stop.on_signals(self.asker.progress),
            TemporaryFile(dir=self.asker.journal.path.parent) as spool,
        ):
            for candidate in candidates:
                pickle.dump(candidate, spool)
            try:
                for batch in self._batches.open():
                    self._recover(batch)
                while self._submit_all(_unspooled(spool)):
                    while self._batches.open():
                        self._collect_some()
                for candidate in _unspooled(spool):
                    answered = self.asker.journal.answer(self.asker.form.request(candidate.figure).key)
                    assert answered is not None  # or _submit_all had submitted it
                    yield candidate, taught(answered, candidate.figure, self.parse)
            except StoppedError:
                raise self.asker.stop.reason() from None
            except OutOfBudgetError:
                figures = (candidate.figure for candidate in _unspooled(spool))
                raise budget_reached(self.asker.purse, self.asker.form, figures, self.asker.noun) from None

    def spent(self) -> dict[str, Any]:
        """See Teacher."""
        return self.asker.purse.spent()

    def _submit_all(self, candidates: Iterable[Candidate]) -> bool:
        """Submit what is not answered, in batches; whether there is anything to wait for."""
        chunk: dict[str, Request] = {}
        size = 0
        for candidate in candidates:
            request = self.asker.form.request(candidate.figure)
            if request.key in chunk or self.asker.journal.answer(request.key) or self._batches.is_out(request.key):
                continue
            length = len(request_line(request))
            if chunk and (len(chunk) >= self.size or size + length > BYTES_PER_BATCH):
                self._submit(list(chunk.values()))
                chunk, size = {}, 0
            chunk[request.key] = request
            size += length
        self._submit(list(chunk.values()))
        return bool(self._batches.open())

    def _submit(self, requests: list[Request]) -> None:
        """Submit requests as one batch; as many as the budget takes, the rest when it takes more."""
        while requests:
            self.asker.stop.wait(0)
            fitting = self._fitting(requests)
            if len(fitting) < len(requests) and self._batches.open():
                self._collect_some()
                continue
            costs = {request.key: self.asker.purse.cost(request.bound) for request in fitting}
            batch = self._batches.plan(fitting, costs, self.asker.purse.limit) if fitting else None
            if batch is None:
                raise OutOfBudgetError
            self._create(self._upload(batch, fitting))
            requests = requests[len(fitting) :]

    def _fitting(self, requests: list[Request]) -> list[Request]:
        if self.asker.purse.limit is None:
            return requests
        left = self.asker.purse.limit - self.asker.journal.committed
        for place, request in enumerate(requests):
            left -= self.asker.purse.cost(request.bound)
            if left < 0:
                return requests[:place]
        return requests

    def _upload(self, batch: Batch, requests: list[Request]) -> Batch:
        content = b"".join(request_line(request) for request in requests)
        try:
            with self.asker.endpoint.free() as client:
                file = client.files.create(file=(_file_name(batch), content), purpose="batch")
        except EndpointError:
            self._batches.close(batch, {})
            raise
        return self._batches.uploaded(batch, file.id)

    def _create(self, batch: Batch) -> Batch:
        """Make the batch at the server, once: where it is uncertain whether a call did, it is looked for."""
        assert batch.file is not None
        for tries in count(1):
            try:
                with self.asker.endpoint.once() as client:
                    remote = client.batches.create(
                        input_file_id=batch.file, endpoint=PATH, completion_window=WINDOW, metadata={TAG: batch.tag}
                    )
            except PassingError as fault:
                wait = self.asker.pace.after_refusal if fault.refused else self.asker.pace.after_fault
                if not wait(fault.wait, tries, batch.tag):
                    raise EndpointError(f"gave up after {tries} tries: {fault.what}", hint=GO_ON) from fault
                if (found := self._find_batch(batch)) is None:
                    continue
                remote = found
            self.asker.progress.note(f"batch {remote.id}: {len(self._batches.reserved(batch))} requests submitted")
            return self._batches.created(batch, remote.id)
        raise AssertionError  # count() does not end

    def _recover(self, batch: Batch) -> None:
        """Take a batch up where a dead process left it; what was created is polled with the others."""
        if batch.state == PLANNED:
            file = self._find_file(batch)
            if file is None:
                self._batches.close(batch, {})
                return
            batch = self._batches.uploaded(batch, file)
        if batch.state != CREATED:
            found = self._find_batch(batch)
            if found is not None:
                self._batches.created(batch, found.id)
            else:
                self._create(batch)

    def _find_file(self, batch: Batch) -> str | None:
        with self.asker.endpoint.free() as client:
            files = client.files.list(purpose="batch", limit=PAGE)
            return next((file.id for file in files if file.filename == _file_name(batch)), None)

    def _find_batch(self, batch: Batch) -> RemoteBatch | None:
        with self.asker.endpoint.free() as client:
            remotes = client.batches.list(limit=PAGE)
            return next((remote for remote in remotes if (remote.metadata or {}).get(TAG) == batch.tag), None)

    def _collect_some(self) -> None:
        """Wait until one batch at least is done, and collect what is."""
        first, longest = self.asker.pace.patience.poll
        for looks in count():
            done = 0
            for batch in self._batches.open():
                assert batch.remote is not None  # every other was recovered, or its fault ended the run
                with self.asker.endpoint.free() as client:
                    remote = client.batches.retrieve(batch.remote)
                if remote.status in DONE:
                    self._collect(batch, remote)
                    done += 1
            if done:
                return
            self.asker.stop.wait(min(first * 2.0 ** min(looks, 30), longest))

    def _collect(self, batch: Batch, remote: RemoteBatch) -> None:
        reserved = self._batches.reserved(batch)
        outcomes = read_outcomes(self._lines(remote), reserved, self.asker.purse.price)
        hopeless = [outcome.why for outcome in outcomes.values() if outcome.hopeless]
        if len(hopeless) == len(reserved):
            self._batches.close(batch, {})
            raise EndpointError(
                f"batch {remote.id}: every request failed: {hopeless[0]}", where=self.asker.endpoint.told, hint=GO_ON
            )
        for key, outcome in outcomes.items():
            if outcome.why and (outcome.hopeless or self._batches.failures(key) + 1 >= FAILURES):
                outcomes[key] = Outcome(Answered(text=None, fault=FAILED, detail=outcome.why))
        self._batches.close(batch, outcomes)
        answered = sum(outcome.answered is not None for outcome in outcomes.values())
        self.asker.progress.note(f"batch {remote.id} {remote.status}: {answered} of {len(reserved)} answered")
        if remote.status == "failed":
            self._after_failure(remote, len(reserved))
        if remote.status == "cancelled":
            raise EndpointError(f"batch {remote.id} was cancelled", where=self.asker.endpoint.told, hint=GO_ON)

    def _lines(self, remote: RemoteBatch) -> Iterator[str]:
        for file in filter(None, (remote.output_file_id, remote.error_file_id)):
            with self.asker.endpoint.free() as client:
                text = client.files.content(file).text
            yield from (line for line in self.asker.endpoint.hidden(text).split("\n") if line.strip())

    def _after_failure(self, remote: RemoteBatch, requests: int) -> None:
        """A batch that the server would not begin: it is sent again, smaller, if only its queue was full."""
        errors = (remote.errors.data if remote.errors else None) or []
        if any(error.code == QUEUE_FULL for error in errors) and (requests > 1 or self._batches.open()):
            self.size = max(1, requests // 2)
            return
        said = "; ".join(dict.fromkeys(error.message or error.code or "" for error in errors)) or "no reason given"
        raise EndpointError(f"batch {remote.id} failed: {said}", where=self.asker.endpoint.told, hint=GO_ON)


def _file_name(batch: Batch) -> str:
    return f"{TAG}-{batch.tag}.jsonl"


def _unspooled(spool: IO[bytes]) -> Iterator[Candidate]:
    """The candidates of a spool, from its start; whoever reads it may stop and begin again."""
    place = 0
    while True:
        spool.seek(place)
        try:
            candidate = pickle.load(spool)
        except EOFError:
            return
        place = spool.tell()
        yield candidate
