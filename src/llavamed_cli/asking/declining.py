"""`--decline-below P`: no answer where the model is not sure enough, and what it wavered between instead.

How sure an answer is: one that says yes or no, by the share of its side in yes and no together; any other, by its
confidence, the geometric mean of its tokens' probabilities. Neither is the chance that the answer is right: `eval`
measures how the two relate for a model (calibration).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llavamed_cli.asking.session import Alternative, Reply, Session
from llavamed_cli.evaluation.scoring.verdicts import yes_or_no

LEAST_MASS = 0.5
"""Below this share of all probability, yes and no are not what the model wavers between."""
ALTERNATIVES = 3


@dataclass(frozen=True)
class Declined:
    """An answer that is held back. probability: how sure it was; None where a server does not tell."""

    probability: float | None
    below: float
    alternatives: tuple[Alternative, ...]


def sureness(reply: Reply) -> float | None:
    """How sure an answer is, 0 to 1; None where that is unknown."""
    verdict = yes_or_no(reply.text)
    if verdict != "unparsed" and reply.yes_no is not None and reply.yes_no.mass >= LEAST_MASS:
        return reply.yes_no.yes if verdict == "yes" else reply.yes_no.no
    return reply.confidence


def decline(session: Session, reply: Reply, below: float) -> Declined | None:
    """Hold the last answer back if it is less sure than `below`, or not known to be sure."""
    sure = sureness(reply)
    if sure is not None and sure >= below:
        return None
    return Declined(sure, below, tuple(_alternatives(session, reply)))


def refusal(declined: Declined) -> str:
    """What is said in place of the answer."""
    if declined.probability is None:
        known = "the server does not tell how sure its model is"
    else:
        known = f"the model is {declined.probability:.2f} sure of its answer"
    lines = [f"Declined: {known}, and {declined.below:g} was asked for."]
    if declined.alternatives:
        lines.append("The model wavers between:")
        lines += [f"  {one.probability:.2f}  {' '.join(one.answer.split())}" for one in declined.alternatives]
    return "\n".join(lines)


def _alternatives(session: Session, reply: Reply) -> Sequence[Alternative]:
    """Yes and no where these are what it wavers between; else what answers could have begun with, carried on."""
    if reply.yes_no is not None and reply.yes_no.mass >= LEAST_MASS:
        sides = (("yes", reply.yes_no.yes), ("no", reply.yes_no.no))
        return [Alternative(answer=side, probability=share) for side, share in sorted(sides, key=lambda one: -one[1])]
    return session.alternatives(ALTERNATIVES)
