from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from llavamed_cli.endpoint.journal import Answered, open_journal, read_journal
from llavamed_cli.errors import DataError, UsageError

KEY = "a" * 64


def test_an_answer_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.sqlite"
    kept = Answered(text="line\n\x00 肺 \U0001f600", fault="cut", detail="d", read=3, written=4, estimated=True)
    with open_journal(path) as journal:
        assert journal.answer(KEY) is None
        (send,) = journal.reserve({KEY: 100}, None) or []
        journal.settle(send, KEY, kept, 60)
        assert journal.answer(KEY) == kept
    with open_journal(path) as journal:
        assert journal.answer(KEY) == kept and journal.committed == 60
    with read_journal(path) as reading:
        assert reading is not None and reading.answer(KEY) == kept
        assert reading.spent().answers == 1 and reading.spent().estimated == 1


def test_a_reservation_is_all_or_nothing(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        assert journal.reserve({"a": 60, "b": 50}, 109) is None
        assert journal.committed == 0
        sends = journal.reserve({"a": 60, "b": 50}, 110)
        assert sends is not None and journal.committed == 110
        assert journal.reserve({"c": 1}, 110) is None
        journal.release(sends[0], "refused")
        journal.doubt(sends[1], "lost")
        assert journal.committed == 50 and journal.spent().doubtful == 50


def test_the_first_answer_stays(tmp_path: Path) -> None:
    with open_journal(tmp_path / "journal.sqlite") as journal:
        for text in ("first", "second"):
            (send,) = journal.reserve({KEY: 1}, None) or []
            journal.settle(send, KEY, Answered(text=text), 1)
        assert journal.answer(KEY) == Answered(text="first")


def test_what_was_reserved_before_a_kill_is_in_doubt_after_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    program = (
        "import os, sys; from pathlib import Path; from llavamed_cli.endpoint.journal import *\n"
        "with open_journal(Path(sys.argv[1])) as journal:\n"
        "    (send,) = journal.reserve({'a': 5}, None); journal.settle(send, 'a', Answered(text='x'), 3)\n"
        "    journal.reserve({'b': 7}, None); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -9
    with read_journal(path) as reading:
        assert reading is not None and reading.answer("a") == Answered(text="x")
    with open_journal(path) as journal:
        assert journal.answer("a") == Answered(text="x") and journal.answer("b") is None
        assert journal.spent().cost == 10 and journal.spent().doubtful == 7 and journal.spent().doubts == 1


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    text, newer = tmp_path / "text.sqlite", tmp_path / "newer.sqlite"
    text.write_text("no database at all, " * 100)
    database = sqlite3.connect(newer)
    database.execute("PRAGMA user_version = 99")
    database.close()
    for path, told in ((text, "no journal, or it is damaged"), (newer, "format 99")):
        with pytest.raises(DataError, match=told), open_journal(path):
            pass
        with pytest.raises(DataError, match=told), read_journal(path):
            pass
    assert text.read_text().startswith("no database")


def test_there_may_be_none_yet_and_reading_makes_none(tmp_path: Path) -> None:
    with read_journal(tmp_path / "journal.sqlite") as reading:
        assert reading is None
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with open_journal(path):
        for door in (open_journal, read_journal):
            with pytest.raises(UsageError, match="another llavamed is at work"), door(path):
                pass
    with open_journal(path):
        pass


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_is_said_and_loses_no_earlier_answer(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    path = tmp_path / "journal.sqlite"
    program = (
        "import resource, signal, sys; from pathlib import Path; from llavamed_cli.endpoint.journal import *\n"
        "from llavamed_cli.errors import DataError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "try:\n"
        "    with open_journal(Path(sys.argv[1])) as journal:\n"
        "        for number in range(10_000):\n"
        "            (send,) = journal.reserve({str(number): 5}, None)\n"
        "            journal.settle(send, str(number), Answered(text='x' * 2000), 3)\n"
        "            print(number, flush=True)\n"
        "except DataError as error:\n"
        "    print(error, file=sys.stderr)\n"
    )
    told = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "the journal cannot be used" in told.stderr and str(path) in told.stderr
    answered = told.stdout.split()
    assert len(answered) > 10
    with open_journal(path) as journal:
        assert all(journal.answer(key) for key in answered)
