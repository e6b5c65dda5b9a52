from __future__ import annotations

import threading
from pathlib import Path

import pytest

from llavamed_cli.corpus.sources.answers import Answers
from llavamed_cli.errors import FetchError


def never() -> None:
    raise AssertionError("asked again")


def test_a_question_is_asked_once_in_this_run_and_its_repetitions(tmp_path: Path) -> None:
    answer = {"ids": [1, 2], "none": None, "text": "é\ud800"}
    with Answers(tmp_path / "new" / "answers.sqlite") as answers:
        assert answers.recall("what", lambda: answer) == answer
        assert answers.recall("what", never) == answer
        assert answers.recall("nothing", lambda: None) is None
    with Answers(tmp_path / "new" / "answers.sqlite") as answers:
        assert answers.recall("what", never) == answer
        assert answers.recall("nothing", never) is None


def test_what_failed_is_not_kept(tmp_path: Path) -> None:
    with Answers(tmp_path / "answers.sqlite") as answers:
        with pytest.raises(AssertionError):
            answers.recall("what", never)
        assert answers.recall("what", lambda: 7) == 7


def test_threads_share_it(tmp_path: Path) -> None:
    with Answers(tmp_path / "answers.sqlite") as answers:
        numbers = range(200)
        threads = [
            threading.Thread(
                target=lambda: [answers.recall(f"{number}", lambda number=number: number) for number in numbers]
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answers.recall(f"{number}", never) for number in numbers] == list(numbers)


def test_a_file_that_is_none_and_a_full_disk_are_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("these are no answers, but long enough to be looked at\n" * 100)
    with pytest.raises(FetchError, match="not a database") as raised:
        Answers(tmp_path / "text")
    assert raised.value.where == str(tmp_path / "text")
    resource = pytest.importorskip("resource", reason="no limits on this system")
    with Answers(tmp_path / "answers.sqlite") as answers:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        try:
            with pytest.raises(FetchError, match="cannot be kept"):
                answers.recall("what", lambda: "x" * 1_000_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
