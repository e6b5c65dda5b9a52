"""Where each batch stands, in the journal: written down before and after each step, so that a death between any two
steps leaves a batch that is found again.

    PLANNED     its requests are reserved; its file may have reached the server under its tag
    UPLOADED    its file lies at the server; the batch may have been made, with its tag as metadata
    CREATED     the server is at work, or has finished
    CLOSED      its answers are in the journal, what was not answered is released
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from llavamed_cli.endpoint.journal import FLIGHT, FREE, PAID, Answered, Journal, insert_answer
from llavamed_cli.endpoint.requests import Request

PLANNED, UPLOADED, CREATED, CLOSED = "planned", "uploaded", "created", "closed"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch that is not closed. tag: names its file and itself at the server. file, remote: the server's ids."""

    number: int
    tag: str
    state: str
    file: str | None = None
    remote: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a request in a batch. answered: None where there is no answer.

    why: the server's fault, None where the request's turn did not come. hopeless: it would meet the same fault again.
    """

    answered: Answered | None
    cost: int = 0
    why: str | None = None
    hopeless: bool = False


class BatchJournal:
    """The batches of a journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def plan(self, requests: Sequence[Request], costs: Mapping[str, int], limit: int | None) -> Batch | None:
        """Reserve the requests as one batch; None where they would pass `limit`.

        The tag is a hash of the requests, and how often they have been planned: a batch that expired is not found again
        in place of the one that repeats it.
        """
        digest = hashlib.sha256("\n".join(request.key for request in requests).encode()).hexdigest()[:32]
        with self.journal.transaction() as database:
            like = (f"{digest}-%",)
            (before,) = database.execute("SELECT COUNT(*) FROM batches WHERE tag LIKE ?", like).fetchone()
            (committed,) = database.execute("SELECT COALESCE(SUM(cost), 0) FROM sends").fetchone()
            if limit is not None and committed + sum(costs.values()) > limit:
                return None
            tag = f"{digest}-{before}"
            number = database.execute("INSERT INTO batches (tag, state) VALUES (?, ?)", (tag, PLANNED)).lastrowid
            assert number is not None
            database.executemany(
                "INSERT INTO sends (key, batch, state, cost) VALUES (?, ?, ?, ?)",
                [(request.key, number, FLIGHT, costs[request.key]) for request in requests],
            )
        self.journal.recount()
        return Batch(number=number, tag=tag, state=PLANNED)

    def uploaded(self, batch: Batch, file: str) -> Batch:
        """Its file lies at the server."""
        return self._moved(replace(batch, state=UPLOADED, file=file))

    def created(self, batch: Batch, remote: str) -> Batch:
        """The server has the batch."""
        return self._moved(replace(batch, state=CREATED, remote=remote))

    def _moved(self, batch: Batch) -> Batch:
        with self.journal.transaction() as database:
            database.execute(
                "UPDATE batches SET state = ?, file = ?, remote = ? WHERE id = ?",
                (batch.state, batch.file, batch.remote, batch.number),
            )
        return batch

    def close(self, batch: Batch, outcomes: Mapping[str, Outcome]) -> None:
        """Keep all answers of a batch at once, and release what has none."""
        with self.journal.transaction() as database:
            for (key,) in database.execute("SELECT key FROM sends WHERE batch = ?", (batch.number,)).fetchall():
                outcome = outcomes.get(key, Outcome(None))
                if outcome.answered is not None:
                    insert_answer(database, key, outcome.answered)
                state = PAID if outcome.answered is not None else FREE
                database.execute(
                    "UPDATE sends SET state = ?, cost = ?, why = ? WHERE batch = ? AND key = ?",
                    (state, outcome.cost, outcome.why, batch.number, key),
                )
            database.execute("UPDATE batches SET state = ? WHERE id = ?", (CLOSED, batch.number))
        self.journal.recount()

    def open(self) -> list[Batch]:
        """The batches that are not closed, oldest first."""
        with self.journal.transaction() as database:
            rows = database.execute(
                "SELECT id, tag, state, file, remote FROM batches WHERE state != ? ORDER BY id", (CLOSED,)
            ).fetchall()
        names = ("number", "tag", "state", "file", "remote")
        return [Batch(**dict(zip(names, row, strict=True))) for row in rows]

    def reserved(self, batch: Batch) -> dict[str, int]:
        """The keys of a batch, and what each is reserved at."""
        with self.journal.transaction() as database:
            query = "SELECT key, cost FROM sends WHERE batch = ?"
            return dict(database.execute(query, (batch.number,)).fetchall())

    def is_out(self, key: str) -> bool:
        """Whether a batch that is not closed asks this."""
        with self.journal.transaction() as database:
            query = "SELECT 1 FROM sends WHERE key = ? AND state = ? AND batch IS NOT NULL"
            return database.execute(query, (key, FLIGHT)).fetchone() is not None

    def failures(self, key: str) -> int:
        """How often a request has come back from a batch with a fault of the server."""
        with self.journal.transaction() as database:
            query = "SELECT COUNT(*) FROM sends WHERE key = ? AND state = ? AND batch IS NOT NULL AND why IS NOT NULL"
            (found,) = database.execute(query, (key, FREE)).fetchone()
            return int(found)
