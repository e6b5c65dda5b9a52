"""How an answer reaches the person: as text while it comes, or as one JSON object a line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
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
CUT = "The answer stops at its limit of {limit} tokens; --max-new-tokens sets another."


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
        reply, declined = _whole(session, question, common)
        terminal.result("", described(question, reply, declined, common))
        return declined is None
    declined = None
    printer = AnswerPrinter(sys.stdout)
    if several:
        printer.print(f"> {question}\n")
    if common.decline_below is None:
        for piece in session.ask(question):
            printer.print(piece)
    else:
        reply, declined = _whole(session, question, common)
        printer.print(reply.text if declined is None else _refusal(declined))
    printer.end()
    if several:
        printer.end()
    if session.last is not None and session.last.finish == "length":
        terminal.note(CUT.format(limit=session.decoding.max_new_tokens))
    return declined is None


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


def _whole(session: Session, question: str, common: Answering) -> tuple[Reply, Declined | None]:
    from llavamed_cli.asking.declining import decline
    from llavamed_cli.errors import ModelError

    for _ in session.ask(question):
        pass
    reply = session.last
    if reply is None:
        raise ModelError("no answer came", where=common.model)
    return reply, None if common.decline_below is None else decline(session, reply, common.decline_below)


def _refusal(declined: Declined) -> str:
    from llavamed_cli.asking.declining import refusal

    return refusal(declined)


def _declined(declined: Declined) -> dict[str, Any]:
    return {
        "below": declined.below,
        "alternatives": [
            {"answer": one.answer, "probability": _rounded(one.probability)} for one in declined.alternatives
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
