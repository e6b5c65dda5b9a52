"""`llavamed ask`: pictures, a question, the answer as it comes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llavamed_cli.cli import ask_options as options
from llavamed_cli.cli.ask_output import Answering, answer, say_notice
from llavamed_cli.cli.conversation import converse
from llavamed_cli.cli.options import Debug, Device, Json, Quiet, Seed
from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.config_folder import config_folder
from llavamed_cli.errors import UsageError
from llavamed_cli.files import require_file

if TYPE_CHECKING:
    from llavamed_cli.asking.choice_of_model import ChosenModel
    from llavamed_cli.asking.served import ServedModel
    from llavamed_cli.asking.session import Session
    from llavamed_cli.model.decoding import Decoding
    from llavamed_cli.model.picture import Picture, View
    from llavamed_cli.model.precision import Choice

STDIN = Path("-")
DECLINED = 3
"""The exit code where --decline-below held an answer back: a script must not take the refusal for one."""

EXAMPLES = """
Examples:

llavamed ask scan.png "What abnormality is seen?" --model tuned

llavamed ask prior.png current.png "What changed?"

llavamed ask chest.dcm "Is there a pneumothorax?" --window -600,1500 --frame 40 --decline-below 0.8

llavamed ask scan.png -q "Is this a CT scan?" -q "Which organ is shown?" --json | jq -r .answer

curl -s https://example.org/scan.png | llavamed ask - "Which organ is shown?"
"""


def ask(
    words: options.Words = None,
    question: options.Questions = None,
    question_file: options.QuestionFile = None,
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    set_default: options.SetDefault = None,
    yes: options.Yes = False,
    precision: options.Precision = "auto",
    max_new_tokens: options.MaxNewTokens = 256,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    system: options.System = None,
    decline_below: options.DeclineBelow = None,
    window: options.Window = None,
    frame: options.Frame = None,
    evidence: options.EvidenceFile = None,
    show: options.Show = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Ask a model about pictures. Without a question, on a terminal, a conversation begins.

    The same question gets the same answer (decoding is greedy unless --temperature is given), printed as it comes.
    Without --model the default of --set-default answers, else the published LLaVA-Med v1.5 (15 GB, fetched once).

    With --json each answer is one object on a line, with how sure it is: confidence, the geometric mean of the answer
    tokens' probabilities, and where the model decides between yes and no, the share of each. --decline-below compares
    the latter, or else the former. Neither is the chance of being right; eval measures that.

    The last line on stderr says that this is no medical device; LLAVAMED_ACKNOWLEDGE=1 silences it.

    Exit codes: 0 answered; 1 a picture, the model or the answer failed; 2 bad usage; 3 an answer was declined; 130
    interrupted.
    """
    terminal = Terminal(as_json=as_json, quiet=quiet)
    if set_default is not None:
        _set_default(set_default, terminal)
        return
    from llavamed_cli.asking.pictures import sort_words
    from llavamed_cli.asking.served import served_model
    from llavamed_cli.model.decoding import Decoding

    decoding = Decoding(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    sorted_words = sort_words(words or (), questions_given=bool(question or question_file))
    questions = _questions(sorted_words.question, question or (), question_file)
    talks = not questions and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    if not questions and not talks:
        raise UsageError("no question is asked", hint='llavamed ask scan.png "What abnormality is seen?"')
    served = served_model(model, base_url)
    if evidence is not None:
        _check_evidence(evidence, questions, served)
    view = _view(window, frame)
    pictures = _open_pictures(sorted_words.pictures, view, terminal)
    if show:
        _show(pictures)
    began = time.perf_counter()
    declined = False
    with _open_session(served, model, device, precision, decoding, system, yes, terminal) as opened:
        session = opened.session
        session.talk = session.talk.showing(pictures)
        common = Answering(
            model=opened.where,
            choices=opened.choices,
            pictures=pictures,
            load=time.perf_counter() - began,
            decline_below=decline_below,
        )
        try:
            for number, text in enumerate(questions):
                if number:
                    session.talk = session.talk.begun_again()
                declined |= not answer(session, text, common, terminal, several=len(questions) > 1)
            if talks:
                same = {
                    "--model": model or opened.where,
                    "--base-url": base_url,
                    "--precision": None if precision == "auto" else precision,
                    "--device": None if device == "auto" else device,
                    "--system": system,
                    "--decline-below": decline_below,
                    "--window": window,
                    "--frame": frame,
                }
                _converse(session, sorted_words.pictures, view, same, decline_below, terminal)
            if evidence is not None and declined:
                terminal.note("evidence: none is drawn of an answer that was declined")
            elif evidence is not None:
                _write_evidence(session, evidence, terminal)
        finally:
            say_notice(terminal)
    if declined:
        raise typer.Exit(DECLINED)


def _converse(
    session: Session,
    places: Sequence[str],
    view: View,
    same: Mapping[str, object],
    decline_below: float | None,
    terminal: Terminal,
) -> None:
    """same: the options that a command must have to ask as this one does; those that are None were not given."""
    from llavamed_cli.asking.commands import Conversation

    conversation = Conversation(
        session=session,
        places=list(places),
        open_pictures=partial(_open_pictures, view=view, terminal=terminal),
        options=[word for name, value in same.items() if value is not None for word in (name, str(value))],
        decline_below=decline_below,
    )
    converse(conversation, terminal)


def _set_default(model: str, terminal: Terminal) -> None:
    from llavamed_cli.asking.choice_of_model import set_default

    file = set_default(model, config_folder())
    terminal.result(f"From now on {model} answers (kept in {file}).", {"model": model, "file": str(file)})


def _questions(from_words: str | None, from_options: Sequence[str], file: Path | None) -> list[str]:
    """All that is asked, in the order in which it was typed, and then as the file has it."""
    from llavamed_cli.asking.pictures import check_question

    asked = [from_words] if from_words is not None else []
    asked += from_options
    if file is not None:
        if file == STDIN:
            text = sys.stdin.read()
        else:
            try:
                text = require_file(file, "file of questions").read_text(encoding="utf-8-sig")
            except UnicodeDecodeError as error:
                raise UsageError("the file of questions is not UTF-8 text", where=str(file)) from error
        found = [line for line in text.splitlines() if line.strip()]
        if not found:
            raise UsageError("the file of questions holds none", where=str(file))
        asked += found
    return [check_question(text) for text in asked]


def _view(window: str | None, frame: int | None) -> View:
    from llavamed_cli.model.picture import View

    if window is None:
        return View(frame=frame)
    try:
        centre, width = (float(part) for part in window.split(","))
    except ValueError as error:
        raise UsageError(f"--window is a centre and a width, such as 40,400, not {window!r}") from error
    return View(window=(centre, width), frame=frame)


def _open_pictures(places: Sequence[str], view: View, terminal: Terminal) -> tuple[Picture, ...]:
    from llavamed_cli.asking.pictures import open_shown, told_name

    pictures = []
    for place in places:
        picture = open_shown(place, view)
        for note in picture.facts.notes:
            terminal.note(f"{told_name(place)}: {note}")
        pictures.append(picture)
    return tuple(pictures)


def _choose(model: str | None, yes: bool, terminal: Terminal) -> ChosenModel:
    from llavamed_cli.asking.choice_of_model import choose_model, make_ready

    somebody = sys.stdin.isatty() and sys.stderr.isatty()
    confirm = (lambda text: typer.confirm(text, err=True)) if somebody else None
    return make_ready(choose_model(model, config_folder()), yes=yes, confirm=confirm, progress=terminal)


@dataclass(frozen=True)
class _Opened:
    """Who answers, where that is, and what was chosen for it."""

    session: Session
    where: str
    choices: dict[str, Choice]


@contextmanager
def _open_session(
    served: ServedModel | None,
    model: str | None,
    device: str,
    precision: str,
    decoding: Decoding,
    system: str | None,
    yes: bool,
    terminal: Terminal,
) -> Iterator[_Opened]:
    """A server's model, once the person knows that pictures leave for it; else one on this machine."""
    if served is not None:
        from llavamed_cli.asking.remote import open_remote
        from llavamed_cli.endpoint.leaving import remembered_hosts, say_leaving

        with open_remote(served.name, served.url, decoding=decoding, system=system, progress=terminal) as remote:
            host, remembered = remote.endpoint.told, remembered_hosts()
            say_leaving(host, terminal, yes=yes, interactive=terminal.is_read, remembered=remembered)
            yield _Opened(remote, f"{served.name} at {served.url}", {})
        return
    terminal.quiet_libraries()
    where = _choose(model, yes, terminal).where
    from llavamed_cli.asking.session import LocalSession
    from llavamed_cli.model.load import load_model

    with terminal.waiting("loading the model"):
        loaded = load_model(where, device=device, precision=precision, progress=terminal)
    yield _Opened(LocalSession(loaded, decoding=decoding, system=system), where, loaded.choices)


def _check_evidence(file: Path, questions: Sequence[str], served: ServedModel | None) -> None:
    """Better known before the model answers than after it."""
    if served is not None:
        raise UsageError("only a model on this machine can be looked into", where="--evidence")
    if len(questions) != 1:
        raise UsageError("a map of evidence belongs to one question", where="--evidence")
    if file.suffix.lower() != ".png":
        raise UsageError(f"the map is a PNG: expected a name that ends in .png, not {file}", where="--evidence")
    if not file.parent.is_dir():
        raise UsageError("there is no such folder", where=str(file.parent))


def _show(pictures: Sequence[Picture]) -> None:
    from llavamed_cli.asking.show import show_picture

    for picture in pictures:
        show_picture(picture.image, sys.stdout)


def _write_evidence(session: Session, file: Path, terminal: Terminal) -> None:
    """Where the last answer looked."""
    from llavamed_cli.asking.evidence import evidence_map
    from llavamed_cli.asking.overlay import write_overlay
    from llavamed_cli.asking.session import LocalSession

    if not isinstance(session, LocalSession) or session.last is None or session.asked is None:
        return
    found = evidence_map(session.loaded, session.asked, session.last.token_ids, progress=terminal)
    write_overlay(session.asked.pictures, found, file)
    terminal.note(f"evidence: {file}")
