"""What the teachers' tests share: figures to teach, and a teacher that asks the server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llavamed_cli.corpus.build_options import TeacherOptions
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.lessons import Exchange
from llavamed_cli.corpus.screening.captions import CaptionQuality
from llavamed_cli.corpus.teacher.open_model import open_model_teacher
from llavamed_cli.corpus.teacher.teaching import Drop, Taught
from llavamed_cli.endpoint.pacing import Patience
from llavamed_cli.progress import Silent
from llavamed_cli.records import Figure, Source

HURRIED = Patience(tries=4, first_wait=0.02, longest_wait=0.1, refused_for=2.0, answer=2.0, poll=(0.01, 0.05))


def make_candidate(number: int, caption: str | None = None) -> Candidate:
    figure = Figure(
        id=f"f{number}",
        picture=Path(f"{number}.png"),
        caption=caption or f"Axial CT of patient {number}, with a nodule.",
        source=Source(kind="pairs"),
    )
    return Candidate(figure=figure, image=f"{number}.png", sha256=f"{number:064x}", quality=CaptionQuality(1.0, {}))


def make_messages(figure: Figure) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Write a dialogue."}, {"role": "user", "content": figure.caption}]


def parse_dialogue(text: str, figure: Figure) -> Taught:
    exchanges: list[Exchange] = []
    for part in text.split("User: ")[1:]:
        question, _, answer = part.partition("Assistant: ")
        exchanges.append((question.strip(), answer.strip()))
    return Taught(tuple(exchanges), () if exchanges else (Drop("no dialogue"),))


@pytest.fixture
def candidates() -> Callable[..., list[Candidate]]:
    """`candidates(5)`: figures f0 to f4, each with a caption of its own."""
    return lambda count: [make_candidate(number) for number in range(count)]


@pytest.fixture
def candidate() -> Callable[..., Candidate]:
    """`candidate(3, "caption")`."""
    return make_candidate


@pytest.fixture
def open_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`open_teacher(server, budget=1.0)`: a teacher on tmp_path's journal, with little patience and no key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def opened(server: Any, *, patience: Patience = HURRIED, parse: Any = parse_dialogue, **options: Any) -> Any:
        places = {name: options.pop(name) for name in ("other_journals", "progress") if name in options}
        journal = options.pop("journal", tmp_path / "journal.sqlite")
        asked = TeacherOptions(
            name=options.pop("name", "scripted"), base_url=server.url, **{"price": (2.0, 8.0), **options}
        )
        progress = places.pop("progress", Silent())
        return open_model_teacher(asked, make_messages, parse, journal, progress, patience=patience, **places)

    return opened


@pytest.fixture
def teach(open_teacher: Callable[..., Any]) -> Callable[..., list[tuple[Candidate, Taught]]]:
    """`teach(server, candidates, concurrency=4)`: all that a teacher says."""

    def run(server: Any, figures: list[Candidate], **options: Any) -> list[tuple[Candidate, Taught]]:
        with open_teacher(server, **options) as teacher:
            return list(teacher.teach(figures))

    return run
