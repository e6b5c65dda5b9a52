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
from llavamed_cli.corpus.teacher.budget import OutOfBudgetError, Purse
from llavamed_cli.corpus.teacher.chat_api import Parse, budget_reached, taught
from llavamed_cli.corpus.teacher.endpoint import GO_ON, Endpoint, PassingError
from llavamed_cli.corpus.teacher.journal import Answered, Journal
from llavamed_cli.corpus.teacher.pacing import Pace
from llavamed_cli.corpus.teacher.requests import Request, RequestForm
from llavamed_cli.corpus.teacher.stopping import Stop, StoppedError
from llavamed_cli.corpus.teacher.teaching import Taught
from llavamed_cli.errors import TeacherError
from llavamed_cli.progress import Progress

if TYPE_CHECKING:
    from openai.types import Batch as RemoteBatch

REQUESTS_PER_BATCH, BYTES_PER_BATCH = 5_000, 32 * 2**20
"""Well below OpenAI's 50,000 and 200 MB: a batch is held in memory, and smaller ones come back sooner."""
WINDOW = "24h"
TAG = "llavamed"
PAGE = 100
FAILURES = 3
"""Times that a request may come back with a fault of the server before its record is left out."""
FAILED = "the teacher's server failed on it"
DONE = ("completed", "expired", "cancelled", "failed")
QUEUE_FULL = "token_limit_exceeded"


@dataclass(kw_only=True)
class BatchTeacher:
    """A Teacher. size: the most requests a batch; halved where the server's queue takes no more."""

    endpoint: Endpoint
    journal: Journal
    purse: Purse
    form: RequestForm
    parse: Parse
    pace: Pace
    stop: Stop
    progress: Progress
    size: int = REQUESTS_PER_BATCH

    def __post_init__(self) -> None:
        self._batches = BatchJournal(self.journal)

    def teach(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Taught]]:
        """See Teacher.

        Raises:
            TeacherError: the server fails for good, or the budget is reached. KeyboardInterrupt: Ctrl-C or SIGTERM; the
            batches go on at the server, and the same command collects them.
        """
        with self.stop.on_signals(self.progress), TemporaryFile(dir=self.journal.path.parent) as spool:
            for candidate in candidates:
                pickle.dump(candidate, spool)
            try:
                for batch in self._batches.open():
                    self._recover(batch)
                while self._submit_all(_unspooled(spool)):
                    while self._batches.open():
                        self._collect_some()
                for candidate in _unspooled(spool):
                    answered = self.journal.answer(self.form.request(candidate.figure).key)
                    assert answered is not None  # or _submit_all had submitted it
                    yield candidate, taught(answered, candidate.figure, self.parse)
            except StoppedError:
                raise self.stop.reason() from None
            except OutOfBudgetError:
                raise budget_reached(self.purse, self.form, _unspooled(spool)) from None

    def spent(self) -> dict[str, Any]:
        """See Teacher."""
        return self.purse.spent()

    def _submit_all(self, candidates: Iterable[Candidate]) -> bool:
        """Submit what is not answered, in batches; whether there is anything to wait for."""
        chunk: dict[str, Request] = {}
        size = 0
        for candidate in candidates:
            request = self.form.request(candidate.figure)
            if request.key in chunk or self.journal.answer(request.key) or self._batches.is_out(request.key):
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
            self.stop.wait(0)
            fitting = self._fitting(requests)
            if len(fitting) < len(requests) and self._batches.open():
                self._collect_some()
                continue
            costs = {request.key: self.purse.cost(request.bound) for request in fitting}
            batch = self._batches.plan(fitting, costs, self.purse.limit) if fitting else None
            if batch is None:
                raise OutOfBudgetError
            self._create(self._upload(batch, fitting))
            requests = requests[len(fitting) :]

    def _fitting(self, requests: list[Request]) -> list[Request]:
        if self.purse.limit is None:
            return requests
        left = self.purse.limit - self.journal.committed
        for place, request in enumerate(requests):
            left -= self.purse.cost(request.bound)
            if left < 0:
                return requests[:place]
        return requests

    def _upload(self, batch: Batch, requests: list[Request]) -> Batch:
        content = b"".join(request_line(request) for request in requests)
        try:
            with self.endpoint.free() as client:
                file = client.files.create(file=(_file_name(batch), content), purpose="batch")
        except TeacherError:
            self._batches.close(batch, {})
            raise
        return self._batches.uploaded(batch, file.id)

    def _create(self, batch: Batch) -> Batch:
        """Make the batch at the server, once: where it is uncertain whether a call did, it is looked for."""
        assert batch.file is not None
        for tries in count(1):
            try:
                with self.endpoint.once() as client:
                    remote = client.batches.create(
                        input_file_id=batch.file, endpoint=PATH, completion_window=WINDOW, metadata={TAG: batch.tag}
                    )
            except PassingError as fault:
                wait = self.pace.after_refusal if fault.refused else self.pace.after_fault
                if not wait(fault.wait, tries, batch.tag):
                    raise TeacherError(f"gave up after {tries} tries: {fault.what}", hint=GO_ON) from fault
                if (found := self._find_batch(batch)) is None:
                    continue
                remote = found
            self.progress.note(f"batch {remote.id}: {len(self._batches.reserved(batch))} requests submitted")
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
        with self.endpoint.free() as client:
            files = client.files.list(purpose="batch", limit=PAGE)
            return next((file.id for file in files if file.filename == _file_name(batch)), None)

    def _find_batch(self, batch: Batch) -> RemoteBatch | None:
        with self.endpoint.free() as client:
            remotes = client.batches.list(limit=PAGE)
            return next((remote for remote in remotes if (remote.metadata or {}).get(TAG) == batch.tag), None)

    def _collect_some(self) -> None:
        """Wait until one batch at least is done, and collect what is."""
        first, longest = self.pace.patience.poll
        for looks in count():
            done = 0
            for batch in self._batches.open():
                assert batch.remote is not None  # every other was recovered, or its fault ended the run
                with self.endpoint.free() as client:
                    remote = client.batches.retrieve(batch.remote)
                if remote.status in DONE:
                    self._collect(batch, remote)
                    done += 1
            if done:
                return
            self.stop.wait(min(first * 2.0 ** min(looks, 30), longest))

    def _collect(self, batch: Batch, remote: RemoteBatch) -> None:
        reserved = self._batches.reserved(batch)
        outcomes = read_outcomes(self._lines(remote), reserved, self.purse.price)
        hopeless = [outcome.why for outcome in outcomes.values() if outcome.hopeless]
        if len(hopeless) == len(reserved):
            self._batches.close(batch, {})
            raise TeacherError(
                f"batch {remote.id}: every request failed: {hopeless[0]}", where=self.endpoint.told, hint=GO_ON
            )
        for key, outcome in outcomes.items():
            if outcome.why and (outcome.hopeless or self._batches.failures(key) + 1 >= FAILURES):
                outcomes[key] = Outcome(Answered(text=None, fault=FAILED, detail=outcome.why))
        self._batches.close(batch, outcomes)
        answered = sum(outcome.answered is not None for outcome in outcomes.values())
        self.progress.note(f"batch {remote.id} {remote.status}: {answered} of {len(reserved)} answered")
        if remote.status == "failed":
            self._after_failure(remote, len(reserved))
        if remote.status == "cancelled":
            raise TeacherError(f"batch {remote.id} was cancelled", where=self.endpoint.told, hint=GO_ON)

    def _lines(self, remote: RemoteBatch) -> Iterator[str]:
        for file in filter(None, (remote.output_file_id, remote.error_file_id)):
            with self.endpoint.free() as client:
                text = client.files.content(file).text
            yield from (line for line in self.endpoint.hidden(text).split("\n") if line.strip())

    def _after_failure(self, remote: RemoteBatch, requests: int) -> None:
        """A batch that the server would not begin: it is sent again, smaller, if only its queue was full."""
        errors = (remote.errors.data if remote.errors else None) or []
        if any(error.code == QUEUE_FULL for error in errors) and (requests > 1 or self._batches.open()):
            self.size = max(1, requests // 2)
            return
        said = "; ".join(dict.fromkeys(error.message or error.code or "" for error in errors)) or "no reason given"
        raise TeacherError(f"batch {remote.id} failed: {said}", where=self.endpoint.told, hint=GO_ON)


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
