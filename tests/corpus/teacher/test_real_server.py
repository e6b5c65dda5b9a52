from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.mark.slow
def test_a_server_we_did_not_write(echo: SimpleNamespace, candidates: object, open_teacher: object) -> None:
    assert callable(candidates) and callable(open_teacher)
    for _ in range(2):
        with open_teacher(echo, name="echo", concurrency=8, parse=lambda text, figure: text) as teacher:
            answers = [answer for _, answer in teacher.teach(candidates(12))]
            spent = teacher.spent()
        assert len(answers) == 12 and all(answers)
        assert spent["answers"] == 12 and spent["tokens_written"] > 0
