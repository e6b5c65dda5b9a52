"""Open a teacher that is a model behind an endpoint, or price it beforehand, from what build-data was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from llavamed_cli.corpus.build_options import TeacherOptions
from llavamed_cli.corpus.teacher.batch_api import BatchTeacher
from llavamed_cli.corpus.teacher.batch_journal import PLANNED, BatchJournal
from llavamed_cli.corpus.teacher.chat_api import ChatTeacher, Parse
from llavamed_cli.endpoint.asking import budget_of, form_requests, open_asker, price_of
from llavamed_cli.endpoint.budget import Purse
from llavamed_cli.endpoint.estimate import Estimate, estimate
from llavamed_cli.endpoint.journal import read_journal
from llavamed_cli.endpoint.pacing import Patience
from llavamed_cli.endpoint.requests import Message, RequestForm
from llavamed_cli.errors import UsageError
from llavamed_cli.progress import Progress
from llavamed_cli.records import Figure

MOST_WRITTEN, LIKELY_WRITTEN = 1024, 350
"""Tokens of an answer: twice what a dialogue of four long exchanges takes, and a dialogue of three."""
FIGURES = "figures"

Messages = Callable[[Figure], Sequence[Message]]


@contextmanager
def open_model_teacher(
    options: TeacherOptions,
    messages: Messages,
    parse: Parse,
    journal: Path,
    progress: Progress,
    *,
    other_journals: Sequence[Path] = (),
    patience: Patience | None = None,
) -> Iterator[ChatTeacher | BatchTeacher]:
    """A Teacher that asks the model `options` name.

    Args:
        messages: the prompt for a figure. parse: what an answer about a figure teaches.
        journal: its file; begun if absent. other_journals: of other runs, whose answers need not be paid for again.

    Raises:
        UsageError: as `open_asker` does, or a batch waits and --batch is absent.
        DataError: the journal is damaged.
    """
    with open_asker(
        options,
        _form(options, messages),
        journal,
        progress,
        noun=FIGURES,
        other_journals=other_journals,
        patience=patience,
    ) as asker:
        if options.batch:
            purse = Purse(asker.journal, price_of(options, half=True), budget_of(options))
            yield BatchTeacher(asker=replace(asker, purse=purse), parse=parse)
            return
        if waiting := [batch for batch in BatchJournal(asker.journal).open() if batch.state != PLANNED]:
            raise UsageError(
                f"{len(waiting)} batches that were paid for wait at the server",
                where=str(journal),
                hint="Repeat the command with --batch to collect them.",
            )
        yield ChatTeacher(asker=asker, parse=parse)


def estimate_teaching(
    options: TeacherOptions,
    messages: Messages,
    journal: Path,
    figures: Iterable[Figure],
    *,
    other_journals: Sequence[Path] = (),
) -> Estimate:
    """What teaching `figures` would take; nothing is sent or written. The journal may be absent.

    Raises:
        UsageError: another process is at work with the journal.
    """
    with read_journal(journal, other_journals) as opened:
        price = price_of(options, half=options.batch)
        return estimate(figures, _form(options, messages), opened, price, FIGURES)


def _form(options: TeacherOptions, messages: Messages) -> RequestForm[Figure]:
    return form_requests(options, messages, most_written=MOST_WRITTEN, likely_written=LIKELY_WRITTEN)
