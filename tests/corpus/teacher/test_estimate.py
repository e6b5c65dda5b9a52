from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.corpus.build_options import TeacherOptions
from llavamed_cli.corpus.teacher.open_model import estimate_teaching


def messages(figure: Any) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Write a dialogue."}, {"role": "user", "content": figure.caption}]


def test_an_estimate_holds_what_it_then_costs(
    serve: Any, candidates: Any, candidate: Any, open_teacher: Any, tmp_path: Path
) -> None:
    server, journal = serve(), tmp_path / "journal.sqlite"
    options = TeacherOptions(name="scripted", base_url=server.url, price=(2.0, 8.0))
    figures = [*candidates(6), candidate(6, candidates(1)[0].figure.caption)]
    before = estimate_teaching(options, messages, journal, [each.figure for each in figures])
    assert (before.items, before.requests, before.answered) == (7, 6, 0)
    assert not journal.exists(), "nothing is written"
    with open_teacher(server) as teacher:
        list(teacher.teach(figures[:3]))
    after = estimate_teaching(options, messages, journal, [each.figure for each in figures])
    assert (after.requests, after.answered) == (3, 4)
    with open_teacher(server) as teacher:
        list(teacher.teach(figures))
    assert before.usd is not None and server.cost(2.0, 8.0) <= before.usd[1]
    assert estimate_teaching(options, messages, journal, [each.figure for each in figures]).requests == 0


def test_a_batch_is_priced_at_half_and_an_unknown_price_is_said(candidates: Any, tmp_path: Path) -> None:
    def asked(**options: Any) -> Any:
        options = {"name": "m", "base_url": "http://localhost:1/v1", "price": (2.0, 8.0), **options}
        return estimate_teaching(
            TeacherOptions(**options), messages, tmp_path / "j.sqlite", [c.figure for c in candidates(10)]
        )

    chat, batch = asked(), asked(batch=True)
    assert batch.usd[1] == pytest.approx(chat.usd[1] / 2, rel=1e-6)
    assert chat.text().startswith("10 requests, about ") and "at most $" in chat.text()
    unknown = asked(price=None)
    assert unknown.usd is None and "price unknown" in unknown.text()
    assert unknown.to_json()["usd_most"] is None and unknown.to_json()["requests"] == 10
