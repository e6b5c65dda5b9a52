"""What was asked of a paid server, what it answered and what that cost: one SQLite file that survives kill -9.

Every send is written down, at its worst cost, before it leaves (`reserve`), and again when it is known what came of it.
A send that was under way when the process died stays counted at its worst: the sum may overstate what was spent, and
never understates it. Every commit is on the disk before the call returns; that costs milliseconds, and no money.

Money is in whole picodollars (1e-12 US dollars), so that sums are exact.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from llavamed_cli.errors import DataError, UsageError

FORMAT = 1
BUSY_SECONDS = 0.5
USD = 10**12
"""Picodollars in a US dollar."""

FLIGHT, DOUBT, PAID, FREE = "in flight", "in doubt", "paid", "free"
"""States of a send. All but FREE count against the budget."""

_SCHEMA = """
CREATE TABLE answers (key TEXT PRIMARY KEY, text TEXT, fault TEXT, detail TEXT,
    read INTEGER NOT NULL, written INTEGER NOT NULL, estimated INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sends (id INTEGER PRIMARY KEY, key TEXT NOT NULL, batch INTEGER REFERENCES batches, state TEXT NOT NULL,
    cost INTEGER NOT NULL, why TEXT, sent TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX sends_of_key ON sends (key);
CREATE TABLE batches (id INTEGER PRIMARY KEY, tag TEXT NOT NULL UNIQUE, state TEXT NOT NULL, file TEXT, remote TEXT);
"""
_ANSWER = "SELECT text, fault, detail, read, written, estimated FROM answers WHERE key = ?"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a server made of a request, as it is kept.

    text: the answer. fault: why it cannot be used, or not all of it; one of few. detail: what is particular.
    read, written: tokens. estimated: the server did not say how many, so they are the most there can have been.
    """

    text: str | None
    fault: str | None = None
    detail: str | None = None
    read: int = 0
    written: int = 0
    estimated: bool = False


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Sums over a journal, money in picodollars. doubtful: the part of `cost` that is for sends of unknown fate."""

    answers: int
    read: int
    written: int
    estimated: int
    cost: int
    doubtful: int
    doubts: int


class Journal:
    """An open journal; its methods may be called from any thread. Made by `open_journal`."""

    def __init__(self, path: Path, database: sqlite3.Connection, others: Sequence[sqlite3.Connection]) -> None:
        self.path = path
        self._database, self._others = database, others
        self._lock = threading.Lock()
        self._committed = 0
        self.recount()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block's statements, or none.

        Raises:
            DataError: the file cannot be written (a full disk) or is damaged.
        """
        with self._lock, _explained(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.commit()
            except BaseException:
                self._database.rollback()
                self._committed = self._sum()
                raise

    def recount(self) -> None:
        """Sum up again what is spent or reserved, after sends were changed in a `transaction`."""
        with self._lock, _explained(self.path):
            self._committed = self._sum()

    def _sum(self) -> int:
        return int(self._database.execute("SELECT COALESCE(SUM(cost), 0) FROM sends").fetchone()[0])

    @property
    def committed(self) -> int:
        """Picodollars spent, in doubt or reserved."""
        return self._committed

    def answer(self, key: str) -> Answered | None:
        """What was answered to the request `key`, here or in another journal, from which it is copied."""
        with self._lock, _explained(self.path):
            for database in (self._database, *self._others):
                if row := database.execute(_ANSWER, (key,)).fetchone():
                    break
            else:
                return None
        answered = _answered(row)
        if database is not self._database:
            with self.transaction() as here:
                insert_answer(here, key, answered)
        return answered

    def reserve(self, costs: Mapping[str, int], limit: int | None, batch: int | None = None) -> list[int] | None:
        """Write down that the requests of these keys are about to be sent, each with its worst cost.

        Returns:
            One number a send; None, and nothing written, where they would pass `limit`.
        """
        worst = sum(costs.values())
        with self.transaction() as database:
            if limit is not None and self._committed + worst > limit:
                return None
            sends = [
                database.execute(
                    "INSERT INTO sends (key, batch, state, cost) VALUES (?, ?, ?, ?)", (key, batch, FLIGHT, cost)
                ).lastrowid
                for key, cost in costs.items()
            ]
            self._committed += worst
        return [send for send in sends if send is not None]

    def settle(self, send: int, key: str, answered: Answered, cost: int) -> None:
        """Keep the answer to a send and what it cost in the end."""
        with self.transaction() as database:
            insert_answer(database, key, answered)
            self._mark(database, send, PAID, cost, answered.fault)

    def release(self, send: int, why: str) -> None:
        """The send cost nothing: the server refused it, or it never left."""
        with self.transaction() as database:
            self._mark(database, send, FREE, 0, why)

    def doubt(self, send: int, why: str) -> None:
        """Whether the server charged for the send is unknown: it stays counted at its worst."""
        with self.transaction() as database:
            database.execute("UPDATE sends SET state = ?, why = ? WHERE id = ?", (DOUBT, why, send))

    def _mark(self, database: sqlite3.Connection, send: int, state: str, cost: int, why: str | None) -> None:
        (before,) = database.execute("SELECT cost FROM sends WHERE id = ?", (send,)).fetchone()
        database.execute("UPDATE sends SET state = ?, cost = ?, why = ? WHERE id = ?", (state, cost, why, send))
        self._committed += cost - before

    def spent(self) -> Spent:
        """The sums so far."""
        with self._lock, _explained(self.path):
            answers, read, written, estimated = self._database.execute(
                "SELECT COUNT(*), COALESCE(SUM(read), 0), COALESCE(SUM(written), 0), COALESCE(SUM(estimated), 0)"
                " FROM answers WHERE key IN (SELECT key FROM sends WHERE state = ?)",
                (PAID,),
            ).fetchone()
            doubts, doubtful = self._database.execute(
                "SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM sends WHERE state = ?", (DOUBT,)
            ).fetchone()
            return Spent(
                answers=answers,
                read=read,
                written=written,
                estimated=estimated,
                cost=self._committed,
                doubtful=doubtful,
                doubts=doubts,
            )


def insert_answer(database: sqlite3.Connection, key: str, answered: Answered) -> None:
    """Keep an answer, within a transaction; the first one to a request stays."""
    values = (answered.text, answered.fault, answered.detail, answered.read, answered.written, int(answered.estimated))
    database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", (key, *values))


def _answered(row: tuple[str | None, str | None, str | None, int, int, int]) -> Answered:
    text, fault, detail, read, written, estimated = row
    return Answered(text=text, fault=fault, detail=detail, read=read, written=written, estimated=bool(estimated))


@contextmanager
def open_journal(path: Path, others: Sequence[Path] = ()) -> Iterator[Journal]:
    """Open the journal at `path`, or begin it; one process at a time. What was in flight in a dead one is in doubt.

    Args:
        others: journals of other runs: an answer found there is copied, and not asked again.

    Raises:
        UsageError: another process is at work with it, or one of `others` is absent.
        DataError: it is no journal, or is damaged, or its disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _explained(path):
            database = stack.enter_context(closing(_connect(path)))
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            _prepare(database, path)
        read_only = [stack.enter_context(_reading(other)) for other in others]
        yield Journal(path, database, read_only)


@contextmanager
def read_journal(path: Path, others: Sequence[Path] = ()) -> Iterator[Journal | None]:
    """The journal at `path` to look things up in, nothing written; None where there is none yet."""
    with ExitStack() as stack:
        if path.is_file():
            yield Journal(path, stack.enter_context(_reading(path)), [stack.enter_context(_reading(o)) for o in others])
        else:
            yield None


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise UsageError("there is no journal", where=str(path))
    with _explained(path):
        uri = f"{path.resolve().as_uri()}?mode=ro"
        database = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    with closing(database):
        with _explained(path):
            _check_format(database, path)
        yield database


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    database.execute("BEGIN EXCLUSIVE")
    if database.execute("PRAGMA user_version").fetchone() == (0,):
        for statement in _SCHEMA.split(";\n"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {FORMAT}")
    _check_format(database, path)
    died = "the process died while it was under way"
    database.execute("UPDATE sends SET state = ?, why = ? WHERE state = ? AND batch IS NULL", (DOUBT, died, FLIGHT))
    database.execute("COMMIT")


def _check_format(database: sqlite3.Connection, path: Path) -> None:
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found != FORMAT:
        raise DataError(f"this journal has format {found}, this version of llavamed reads {FORMAT}", where=str(path))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's faults as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UsageError("another llavamed is at work with this journal", where=str(path)) from error
        raise DataError(f"the journal cannot be used: {error}", where=str(path)) from error
    except sqlite3.DatabaseError as error:
        raise DataError(f"this is no journal, or it is damaged: {error}", where=str(path)) from error
