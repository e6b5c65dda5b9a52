"""The teacher that was asked for: the offline one, or a model behind an endpoint; and what the latter would cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from llavamed_cli.corpus.build_options import RULES, BuildOptions
from llavamed_cli.corpus.candidates import Candidate
from llavamed_cli.corpus.domain import Domain
from llavamed_cli.corpus.lessons import generator
from llavamed_cli.corpus.teacher.dialogue import read_dialogue
from llavamed_cli.corpus.teacher.open_model import estimate_teaching, open_model_teacher
from llavamed_cli.corpus.teacher.prompts import messages, require_brief
from llavamed_cli.corpus.teacher.rules import teach
from llavamed_cli.corpus.teacher.teaching import Taught, Teacher
from llavamed_cli.endpoint.asking import check_endpoint
from llavamed_cli.endpoint.estimate import Estimate
from llavamed_cli.progress import Progress
from llavamed_cli.records import Figure

JOURNAL = "journal.sqlite"


def check_teacher(options: BuildOptions, domain: Domain) -> None:
    """Find what would stop the teacher at once, before any figure is screened.

    Raises:
        UsageError: no key, a budget without a price, or a domain that says nothing to a model.
    """
    if options.teacher.name != RULES:
        require_brief(domain)
        check_endpoint(options.teacher)


@contextmanager
def open_teacher(options: BuildOptions, domain: Domain, progress: Progress) -> Iterator[Teacher]:
    """The teacher that `options` name; what it keeps open is closed at the end of the block.

    Raises:
        UsageError: another process is at work with the journal, or a batch waits in it and --batch is absent.
    """
    if options.teacher.name == RULES:
        yield RulesTeacher(domain, options.seed)
        return
    with open_model_teacher(
        options.teacher,
        messages=partial(messages, domain=domain),
        parse=partial(read_dialogue, domain=domain),
        journal=options.out / JOURNAL,
        progress=progress,
    ) as teacher:
        yield teacher


def estimate_cost(options: BuildOptions, domain: Domain, figures: Iterable[Figure]) -> Estimate | None:
    """What teaching `figures` would take; None for the offline teacher. Nothing is sent."""
    if options.teacher.name == RULES:
        return None
    return estimate_teaching(options.teacher, partial(messages, domain=domain), options.out / JOURNAL, figures)


@dataclass(frozen=True)
class RulesTeacher:
    """The offline teacher (teacher/rules.py) as a Teacher."""

    domain: Domain
    seed: int

    def teach(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Taught]]:
        """See Teacher."""
        for candidate in candidates:
            rng = generator(self.seed, "teacher", candidate.figure.id)
            yield candidate, Taught(teach(candidate.figure, candidate.modality, self.domain, rng))

    def spent(self) -> dict[str, Any]:
        """Nothing."""
        return {}
