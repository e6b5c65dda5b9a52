"""From WHO, as typed, to who answers; nothing is loaded, read or asked before the first question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from llavamed_cli.benchmarks.open_benchmark import BenchmarkName, picture_folder, read_benchmark, training_part
from llavamed_cli.benchmarks.reading import KnownAnswer
from llavamed_cli.endpoint.asking import Asker, check_endpoint, form_requests, open_asker
from llavamed_cli.endpoint.leaving import remembered_hosts, say_leaving
from llavamed_cli.endpoint.server import resolve_url, told_host
from llavamed_cli.errors import UsageError
from llavamed_cli.evaluation.answerers.answerer import Answerer, Who
from llavamed_cli.evaluation.answerers.answers_file import AnswersFile
from llavamed_cli.evaluation.answerers.cascade import Cascade
from llavamed_cli.evaluation.answerers.cascade_file import read_cascade
from llavamed_cli.evaluation.answerers.clip_choice import ClipChoice
from llavamed_cli.evaluation.answerers.endpoint_model import EndpointModel, QuestionMessages
from llavamed_cli.evaluation.answerers.local_model import LocalModel, ModelShelf
from llavamed_cli.evaluation.answerers.majority import Majority
from llavamed_cli.evaluation.answerers.nearest import Nearest
from llavamed_cli.evaluation.plan import EvalPlan, ServerOptions
from llavamed_cli.progress import Progress
from llavamed_cli.records import Question

if TYPE_CHECKING:
    from llavamed_cli.model.clip import Clip

JOURNAL, DESCRIPTIONS = "journal.sqlite", "descriptions"
LIKELY_WRITTEN = 16
"""Tokens of an answer in a few words, for estimates."""


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What answerers of one benchmark may need. known: training answers; name: where training questions come from."""

    plan: EvalPlan
    title: str
    name: BenchmarkName
    questions: Sequence[Question]
    known: tuple[KnownAnswer, ...]
    shelf: ModelShelf
    progress: Progress


def open_answerer(who: Who, of: Answering) -> Answerer:
    """The answerer that `who` names.

    Raises:
        UsageError, DataError: what it needs beforehand (a file, training answers) is not there or is broken.
    """
    plan = of.plan
    if who.kind == "majority":
        return Majority(of.known)
    if who.kind == "nearest":
        return Nearest(partial(_training_questions, of))
    if who.kind == "answers":
        return AnswersFile(Path(who.target), of.questions, plan.missing, of.progress)
    if who.kind == "clip":
        closed, closed_from = _closed_answers(of)
        return ClipChoice(partial(_load_clip, plan.device, Path(who.target)), closed, closed_from=closed_from)
    if who.kind == "cascade":
        return _open_cascade(who, of)
    if who.kind == "server":
        return EndpointModel(
            _asker(who.target, plan.server.base_url, of, blind=who.blind),
            blind=who.blind,
            max_new_tokens=plan.max_new_tokens,
            progress=of.progress,
        )
    return LocalModel(
        partial(of.shelf.load, who.target),
        blind=who.blind,
        max_new_tokens=plan.max_new_tokens,
        batch_size=plan.batch_size,
        crew=of.shelf.crew,
        where=who.target,
    )


def check_servers(plan: EvalPlan, progress: Progress) -> None:
    """Find what would stop a server's answers at once, and say that pictures, or what is said of them, leave this
    machine. To a server that a cascade's file names, which may be a stranger's, nothing is sent without --yes.

    Raises:
        UsageError: as `check_endpoint` and `say_leaving` do.
    """
    for who in plan.whos.values():
        if who.kind == "cascade":
            cascade = read_cascade(Path(who.target))
            if cascade.served is not None:
                check_endpoint(plan.server.named(cascade.served, cascade.base_url))
                say_leaving(
                    told_host(resolve_url(cascade.base_url)),
                    progress,
                    yes=plan.server.yes,
                    interactive=plan.server.interactive and cascade.base_url is None,
                    remembered=remembered_hosts("descriptions"),
                    what="descriptions",
                )
        if who.kind == "server":
            check_endpoint(plan.server.named(who.target, plan.server.base_url))
            if not who.blind:
                say_leaving(
                    told_host(resolve_url(plan.server.base_url)),
                    progress,
                    yes=plan.server.yes,
                    interactive=plan.server.interactive,
                    remembered=remembered_hosts(),
                )


def _open_cascade(who: Who, of: Answering) -> Cascade:
    cascade = read_cascade(Path(who.target))
    served = cascade.served
    return Cascade(
        cascade,
        of.shelf.load,
        partial(_load_clip, of.plan.device),
        max_new_tokens=of.plan.max_new_tokens,
        open_asker=None if served is None else _asker(served, cascade.base_url, of, blind=True),
        kept=of.plan.out / DESCRIPTIONS / _folder_name(who, of.plan) / f"{of.title}.jsonl",
    )


def _asker(
    model: str, base_url: str | None, of: Answering, *, blind: bool
) -> Callable[[], AbstractContextManager[Asker[Question]]]:
    server: ServerOptions = of.plan.server.named(model, base_url)
    form = form_requests(
        server,
        QuestionMessages(blind=blind),
        most_written=of.plan.max_new_tokens,
        likely_written=min(of.plan.max_new_tokens, LIKELY_WRITTEN),
    )
    return partial(open_asker, server, form, of.plan.out / JOURNAL, of.progress, noun="questions")


def _folder_name(who: Who, plan: EvalPlan) -> str:
    """The answerer's short name as its folders bear it."""
    return next(name for name, named in plan.whos.items() if named is who).replace(":", "+")


def _closed_answers(of: Answering) -> tuple[list[str], str]:
    """Those of training, the most frequent first; of the benchmark itself where it has no training split. And which."""
    found = Counter(text.strip().lower() for kind, text in of.known if kind == "closed")
    source = "the training questions"
    if not found:
        found = Counter(one.answer.strip().lower() for one in of.questions if one.answer_type == "closed")
        source = "the questions asked themselves, as there are no training questions, which is a help"
    return sorted(found, key=lambda text: (-found[text], text)), source


def _training_questions(of: Answering) -> Sequence[Question]:
    part = training_part(of.name, of.plan.train)
    if part is None:
        raise UsageError(f"{of.name.text} has no training questions here", hint="Name them with --train FILE.")
    pictures = of.plan.out / "pictures" / f"{of.title}-train"
    if part.file is not None:
        pictures = picture_folder(part, of.plan.images)
    read = read_benchmark(part, pictures=pictures, split="train", seed=of.plan.seed)
    if read.faults:
        of.progress.note(f"{of.title}: {len(read.faults)} training question(s) left out; the first: {read.faults[0]}")
    return read.questions


def _load_clip(device: str, folder: Path) -> Clip:
    from llavamed_cli.model.clip import load_clip_model

    return load_clip_model(folder, device=device)
