"""Questions about a phantom whose closed answers are fair coins to anyone who does not see the picture.

Four rules make it so. Whether a finding is asked about never depends on the answer. Where one of several names is asked
about (an X-ray? a CT scan?), a coin first decides whether it is the true one. What would tell an answer comes after it:
a finding's side, size and count are asked once its presence is settled. And every kind of picture is asked in the same
words. So given its own text and all turns before it, questions and answers, each closed answer is "yes" with
probability 1/2 (tests/phantoms/test_questions.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llavamed_cli.phantoms.kinds import FINDING_NAMES, KINDS, PLURALS, Kind
from llavamed_cli.phantoms.truth import Finding, Phantom, Truth
from llavamed_cli.records import AnswerType

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class PhantomQuestion:
    """One question of a conversation. question_type: one of VQA-RAD's ("PRES", "POS", ...)."""

    text: str
    answer: str
    answer_type: AnswerType
    question_type: str


# Two phrasings a question, short enough for a byte-level model; none says how many of a finding there are.
IS_IMAGE = ("Is this {article} {image}?", "Is {article} {image} shown?")
IS_ORGAN = ("Does this show {shown}?", "Is {shown} shown?")
WHAT_IMAGE = ("What kind of image is this?", "What type of image is this?")
WHAT_ORGAN = ("What part of the body is this?", "What is imaged?")
IS_BAR = ("Is there a scale bar?", "Is a scale bar seen?")
IS_FINDING = ("Is there a {name}?", "Is a {name} seen?")
WHAT_FINDING = ("What is abnormal?", "What abnormality is seen?")
IS_SIDE = ("Is there a {name} on the {side}?", "Is a {name} seen on the {side}?")
IS_SIZE = ("Is there a {size} {name}?", "Is a {size} {name} seen?")
WHICH_SIDE = ("Which side has a {name}?", "On which side is a {name} seen?")
WHAT_SIZE = ("What size of {name} is there?", "What size of {name} is seen?")
HOW_MANY = ("How many {plural} are there?", "How many {plural} are seen?")


def questions(phantom: Phantom) -> tuple[PhantomQuestion, ...]:
    """The conversation about a phantom, in the order in which it may be asked: 3 to 6 questions, the same each time.

    On average 3.75 of them are closed and 1.5 open. A conversation cut short keeps the promise above; one put in
    another order does not.
    """
    rng = phantom.generator("questions")
    truth = phantom.truth
    topics = (_about_kind(rng, truth), _about_scale_bar(rng, truth), _about_findings(rng, truth))
    return tuple(question for i in rng.permutation(len(topics)) for question in topics[i])


def _about_kind(rng: np.random.Generator, truth: Truth) -> list[PhantomQuestion]:
    """One question alone: a second about the kind could be answered from the first."""
    by_image = _coin(rng)
    question_type = "MODALITY" if by_image else "ORGAN"
    if _coin(rng):
        answer = truth.kind.image if by_image else truth.kind.organ
        return [_open(rng, WHAT_IMAGE if by_image else WHAT_ORGAN, answer, question_type)]
    asked = truth.kind if _coin(rng) else _other(rng, truth.kind)
    words = {"article": asked.article, "image": asked.image, "shown": asked.shown}
    return [_closed(rng, IS_IMAGE if by_image else IS_ORGAN, asked is truth.kind, question_type, **words)]


def _about_scale_bar(rng: np.random.Generator, truth: Truth) -> list[PhantomQuestion]:
    return [_closed(rng, IS_BAR, truth.scale_bar, "OTHER")]


def _about_findings(rng: np.random.Generator, truth: Truth) -> list[PhantomQuestion]:
    """First what there is: one by one, or in one open question. Then two details of what is there."""
    if rng.random() < 0.75:
        asked = [FINDING_NAMES[i] for i in rng.permutation(len(FINDING_NAMES))]
        first = [_closed(rng, IS_FINDING, truth.finding(name) is not None, "PRES", name=name) for name in asked]
    else:
        answer = " and ".join(finding.name for finding in truth.findings) or "none"
        first = [_open(rng, WHAT_FINDING, answer, "ABN")]
    return first + _details(rng, truth)


def _details(rng: np.random.Generator, truth: Truth) -> list[PhantomQuestion]:
    """A closed and an open detail: of one finding two different ones, of two findings one each."""
    if not truth.findings:
        return []
    first, *rest = (truth.findings[i] for i in rng.permutation(len(truth.findings)))
    if _coin(rng):
        side = "left" if _coin(rng) else "right"
        closed = _closed(rng, IS_SIDE, first.side == side, "POS", name=first.name, side=side)
    else:
        size = "small" if _coin(rng) else "large"
        closed = _closed(rng, IS_SIZE, first.size == size, "SIZE", name=first.name, size=size)
    second = rest[0] if rest else first
    return [closed, _open_detail(rng, second, told=closed.question_type)]


def _open_detail(rng: np.random.Generator, finding: Finding, told: str) -> PhantomQuestion:
    """One of side, size and count, but not the one that was just asked about."""
    aspects = [aspect for aspect in ("POS", "SIZE", "COUNT") if aspect != told]
    aspect = aspects[rng.integers(len(aspects))]
    if aspect == "POS":
        return _open(rng, WHICH_SIDE, finding.side, aspect, name=finding.name)
    if aspect == "SIZE":
        return _open(rng, WHAT_SIZE, finding.size, aspect, name=finding.name)
    return _open(rng, HOW_MANY, "one" if finding.count == 1 else "two", aspect, plural=PLURALS[finding.name])


def _coin(rng: np.random.Generator) -> bool:
    return bool(rng.random() < 0.5)


def _other(rng: np.random.Generator, kind: Kind) -> Kind:
    others = [other for other in KINDS if other is not kind]
    return others[rng.integers(len(others))]


def _closed(
    rng: np.random.Generator, phrasings: tuple[str, str], yes: bool, question_type: str, **words: str
) -> PhantomQuestion:
    text = phrasings[rng.integers(2)].format(**words)
    answer = "yes" if yes else "no"
    return PhantomQuestion(text=text, answer=answer, answer_type="closed", question_type=question_type)


def _open(
    rng: np.random.Generator, phrasings: tuple[str, str], answer: str, question_type: str, **words: str
) -> PhantomQuestion:
    text = phrasings[rng.integers(2)].format(**words)
    return PhantomQuestion(text=text, answer=answer, answer_type="open", question_type=question_type)
