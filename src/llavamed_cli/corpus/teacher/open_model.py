"""Open a teacher that is a model behind an endpoint, or price it beforehand, from what build-data was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llavamed_cli.corpus.build_options import TeacherOptions
from llavamed_cli.corpus.teacher.batch_api import BatchTeacher
from llavamed_cli.corpus.teacher.batch_journal import PLANNED, BatchJournal
from llavamed_cli.corpus.teacher.budget import Purse
from llavamed_cli.corpus.teacher.chat_api import ChatTeacher, Parse
from llavamed_cli.corpus.teacher.endpoint import open_endpoint, require_key, resolve_url
from llavamed_cli.corpus.teacher.estimate import Estimate, estimate
from llavamed_cli.corpus.teacher.journal import open_journal, read_journal
from llavamed_cli.corpus.teacher.pacing import Pace, Patience
from llavamed_cli.corpus.teacher.prices import Price, known_model, per_million, picodollars
from llavamed_cli.corpus.teacher.requests import Messages, RequestForm
from llavamed_cli.corpus.teacher.stopping import Stop
from llavamed_cli.errors import UsageError
from llavamed_cli.progress import Progress
from llavamed_cli.records import Figure


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
        UsageError: no key, a budget without a price, another process at work, or a batch waits and --batch is absent.
        DataError: the journal is damaged.
    """
    patience = patience or Patience()
    check_model_teacher(options)
    form, price = _form(options, messages), _price(options)
    with (
        open_journal(journal, other_journals) as opened,
        open_endpoint(options.name, form.url, answer_seconds=patience.answer) as endpoint,
    ):
        stop = Stop()
        limit = None if options.budget is None else picodollars(options.budget)
        purse, pace = Purse(opened, price, limit), Pace(patience, stop)
        if options.batch:
            yield BatchTeacher(
                endpoint=endpoint,
                journal=opened,
                purse=purse,
                form=form,
                parse=parse,
                pace=pace,
                stop=stop,
                progress=progress,
            )
            return
        if waiting := [batch for batch in BatchJournal(opened).open() if batch.state != PLANNED]:
            raise UsageError(
                f"{len(waiting)} batches that were paid for wait at the server",
                where=str(journal),
                hint="Repeat the command with --batch to collect them.",
            )
        yield ChatTeacher(
            endpoint=endpoint,
            journal=opened,
            purse=purse,
            form=form,
            parse=parse,
            pace=pace,
            stop=stop,
            concurrency=options.concurrency,
            progress=progress,
        )


def check_model_teacher(options: TeacherOptions) -> None:
    """Find what would stop the teacher at once, before any figure is screened.

    Raises:
        UsageError: no key, no address, or a budget without a price.
    """
    require_key(options.name, resolve_url(options.base_url))
    if options.budget is not None and _price(options) is None:
        raise UsageError(
            f"--budget cannot be kept: what {options.name} costs is unknown",
            hint="Add --price READ,WRITTEN in US dollars per million tokens (0,0 for a server of your own).",
        )


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
        return estimate(figures, _form(options, messages), opened, _price(options))


def _form(options: TeacherOptions, messages: Messages) -> RequestForm:
    known = known_model(options.name)
    return RequestForm(
        model=options.name,
        url=resolve_url(options.base_url),
        messages=messages,
        reasoning=known.reasoning if known else False,
    )


def _price(options: TeacherOptions) -> Price | None:
    if options.price is not None:
        return per_million(*options.price, half=options.batch)
    known = known_model(options.name)
    return Price(known.price.read, known.price.written, options.batch) if known else None
