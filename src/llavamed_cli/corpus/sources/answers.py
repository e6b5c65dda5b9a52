"""What a server was asked in this run, and answered: a repeated run sees the world as the first one saw it.

One SQLite file, because a large run asks millions of short questions. Only answers that were understood are kept.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llavamed_cli.errors import FetchError

if TYPE_CHECKING:
    from typing_extensions import Self


class Answers:
    """Answers by their question, in a file that is made when it is opened. Threads may share it.

    Raises:
        FetchError: the file cannot be made, read or written; nothing is asked that could not be kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=60)
            self._connection.execute("PRAGMA journal_mode=WAL")  # what is written survives a kill
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS answer (question TEXT PRIMARY KEY, answer TEXT)")
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._connection.close()

    def recall(self, question: str, ask: Callable[[], Any]) -> Any:
        """The answer to `question`, a JSON value; `ask` is called for it the first time."""
        kept = self._execute("SELECT answer FROM answer WHERE question = ?", question)
        if kept:
            return json.loads(kept[0][0])
        answer = ask()
        self._execute("INSERT OR REPLACE INTO answer VALUES (?, ?)", question, json.dumps(answer))
        return answer

    def _execute(self, statement: str, *values: str) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: sqlite3.Error) -> FetchError:
        hint = "Is there room on the disk, and may the folder be written? If so, remove the file."
        return FetchError(f"a server's answers cannot be kept: {error}", where=str(self._file), hint=hint)
