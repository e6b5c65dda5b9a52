"""How an answer reaches the person: as text while it comes, or as one JSON object a line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.cli.wrapping import AnswerPrinter

if TYPE_CHECKING:
    from llavamed_cli.asking.declining import Declined
    from llavamed_cli.asking.session import Reply, Session
    from llavamed_cli.model.picture import Picture
    from llavamed_cli.model.precision import Choice

ACKNOWLEDGED = "LLAVAMED_ACKNOWLEDGE"
NOTICE = "research use only, not a medical device"


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What is the same for all questions of a command. load: seconds until the model was ready."""

    model: str
    choices: dict[str, Choice]
    pictures: Sequence[Picture]
    load: float
    decline_below: float | None


def answer(session: Session, question: str, common: Answering, terminal: Terminal, *, several: bool) -> bool:
    """Ask, and print the answer, or the refusal in its place; return whether it was answered.

    several: more than one question is asked, so each stands above its answer.
    """
    if terminal.as_json:
        with terminal.waiting("answering"):
            reply, declined = _whole(session, question, common.decline_below)
        terminal.result("", described(question, reply, declined, common))
        return declined is None
    printer = AnswerPrinter(sys.stdout)
    if several:
        printer.print(f"> {question}\n")
    answered = say(session, question, common.decline_below, printer, terminal)
    printer.end()
    if several:
        printer.end()
    if answered:
        say_cut(session, terminal)
    return answered


def say(
    session: Session, question: str, decline_below: float | None, printer: AnswerPrinter, terminal: Terminal
) -> bool:
    """Print an answer as it comes, or the refusal in its place, which is then what was said; whether it was answered.

    An exception on the way, such as Ctrl-C, stops the model; what was said until then stays said.
    """
    if decline_below is None:
        pieces: Any = session.ask(question)
        with closing(pieces), terminal.waiting("reading") as heard:
            for piece in pieces:
                heard()
                printer.print(piece)
        return True
    from llavamed_cli.asking.declining import refusal

    with terminal.waiting("answering"):
        reply, declined = _whole(session, question, decline_below)
    if declined is None:
        printer.print(reply.text)
        return True
    told = refusal(declined)
    if reply.text:  # without a word, the question is not in the talk either
        session.talk = session.talk.answered_instead(told)
    printer.print(told)
    return False


def say_cut(session: Session, terminal: Terminal) -> None:
    """Tell where the last answer met its limit."""
    if session.last is not None and session.last.finish == "length":
        limit = session.decoding.max_new_tokens
        terminal.note(f"The answer stops at its limit of {limit} tokens; --max-new-tokens sets another.")


def described(question: str, reply: Reply, declined: Declined | None, common: Answering) -> dict[str, Any]:
    """One answer as `--json` tells it; the README lists the fields."""
    from llavamed_cli import __version__
    from llavamed_cli.asking.declining import LEAST_MASS, sureness

    closed = reply.yes_no if reply.yes_no is not None and reply.yes_no.mass >= LEAST_MASS else None
    precision = common.choices.get("precision")
    return {
        "question": question,
        "answer": None if declined else reply.text,
        "declined": None if declined is None else _declined(declined),
        "confidence": _rounded(reply.confidence),
        "yes_no": None if closed is None else {name: _rounded(share) for name, share in asdict(closed).items()},
        "sure": _rounded(sureness(reply)),
        "finish": reply.finish,
        "tokens": reply.tokens,
        "model": common.model,
        "precision": precision.value if precision else None,
        "choices": {name: asdict(choice) for name, choice in common.choices.items()},
        "pictures": [asdict(picture.facts) for picture in common.pictures],
        "seconds": {
            "load": round(common.load, 3),
            "first_token": round(reply.to_first, 3),
            "answer": round(reply.seconds, 3),
        },
        "tokens_per_second": _rounded(reply.tokens_a_second),
        "version": __version__,
        "notice": NOTICE,
    }


def say_notice(terminal: Terminal) -> None:
    """The last line, unless the person has acknowledged it for good."""
    if os.environ.get(ACKNOWLEDGED) != "1":
        from llavamed_cli.report_page import DISCLAIMER

        terminal.warn(DISCLAIMER)


def _whole(session: Session, question: str, decline_below: float | None) -> tuple[Reply, Declined | None]:
    from llavamed_cli.asking.declining import decline
    from llavamed_cli.errors import ModelError

    for _ in session.ask(question):
        pass
    reply = session.last
    if reply is None:
        raise ModelError("no answer came")
    return reply, None if decline_below is None else decline(session, reply, decline_below)


def _declined(declined: Declined) -> dict[str, Any]:
    return {
        "below": declined.below,
        "alternatives": [
            {"answer": one.answer, "probability": _rounded(one.probability)} for one in declined.alternatives
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
