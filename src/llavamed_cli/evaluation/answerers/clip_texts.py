"""What a CLIP is given to choose among: which answers a question may have, and in which words each is said.

Both are decided by the question's own words, never by its reference answer. An answer is said in several ways, whose
vectors are averaged (Radford et al. 2021, section 3.1.4); yes and no, where the question names a thing, also as the
thing and "no" thing (Tiu et al. 2022). The words are of no field. A rule of language is a guess: it errs now and then,
for every CLIP alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llavamed_cli.evaluation.scoring.verdicts import HAN_CHARACTER, asks_yes_or_no
from llavamed_cli.records import Question

YES_OR_NO, CHINESE_YES_OR_NO = ("yes", "no"), ("是的", "不是")
MOST_CHOICES = 100
"""Closed answers that are said of one question: SLAKE's training part has fewer of one language."""
ASKS_YES_OR_NO = re.compile(
    r"(is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|should|may|might|must|any)\b(?!.*\bor\b)",
    re.DOTALL,
)
"""The beginning of an English question that yes or no answers; one that offers a choice ("... or ...") is none."""
CHINESE_ASKS_YES_OR_NO = re.compile(r"吗|是否|有没有|是不是|能否|可否|有无|么\W*$")
OFFERS = re.compile(r"\bor\b|还是|或", re.IGNORECASE)
WORD = re.compile(r"[^\W_]+")
SAID = ("{question} {answer}", "an image of {answer}", "{answer}")
SAID_YES_OR_NO = ("{question} {answer}", "{answer}: {question}")
"""The last of each is not lost where a long question is cut at its end."""

_NOUN, _SOME = r"(?:the|this|these|that|an|a)\s+(?:\w+\s+)?\w+", r"(?:(?:any|an|a|the)\s+)?"
_SIGN = r"(?:(?:evidence|signs?|presence|indications?)\s+of\s+)?"
_SHOW = r"(?:show|contain|have|include|depict|demonstrate|display|reveal)"
_SEEN = r"(?:present|visible|seen|shown|visuali[sz]ed|apparent|evident|depicted|identified|noted)"
_A_THING = rf"{_SOME}{_SIGN}{_SOME}(?P<thing>.+?)"
THINGS = tuple(
    re.compile(rf"{pattern}\s*[?.]*", re.IGNORECASE)
    for pattern in (
        rf"(?:is|are|was|were)\s+{_A_THING}\s+{_SEEN}\s+(?:in|on)\s+{_NOUN}",
        rf"(?:is|are|was|were)\s+{_A_THING}\s+{_SEEN}",
        rf"(?:can|do|could)\s+you\s+(?:see|find|identify)\s+{_A_THING}",
        rf"(?:do|does|did)\s+{_NOUN}\s+{_SHOW}\s+{_A_THING}",
        rf"(?:is|are|was|were)\s+there\s+{_A_THING}",
    )
)
"""Questions whether a thing is there, the longest form first. What is matched whole is the thing."""
WHERE = re.compile(r"\s+(?:in|on)\s+(?:the|this|these)\s+(?:image|picture|photo|photograph|figure)s?$", re.IGNORECASE)
NEGATED = re.compile(r"\b(?:no|not|without|absent|free)\b", re.IGNORECASE)


def possible_answers(question: Question, closed: Sequence[str]) -> tuple[str, ...]:
    """The answers that a question may have; none of an open one.

    They are its own choices; or yes and no, where it begins as such questions do; or those of `closed` that it offers
    ("left or right"); or all of `closed` in its script.

    Args:
        closed: closed answers of the benchmark, in lower case, the most frequent first.
    """
    if question.answer_type == "open":
        return ()
    if question.choices:
        return question.choices
    text = question.text.strip().lower()
    chinese = bool(HAN_CHARACTER.search(text))
    if (CHINESE_ASKS_YES_OR_NO.search(text) if chinese else ASKS_YES_OR_NO.match(text)) is not None:
        return CHINESE_YES_OR_NO if chinese else YES_OR_NO
    others = [answer for answer in closed if asks_yes_or_no(answer) == "unparsed"]
    if named := offered(text, others):
        return named
    known = tuple(answer for answer in others if bool(HAN_CHARACTER.search(answer)) == chinese)[:MOST_CHOICES]
    return known if len(known) > 1 else CHINESE_YES_OR_NO if chinese else YES_OR_NO


def offered(text: str, answers: Sequence[str]) -> tuple[str, ...]:
    """The answers that a text in lower case offers, some before an "or" and some behind it; none where it offers none.

    One that stands within a longer one that is offered is not: "kidney" in "left kidney".
    """
    sides = OFFERS.split(text)
    found = [answer for answer in answers if any(_stands_in(answer, side) for side in sides)]
    found = [answer for answer in found if not any(answer != other and answer in other for other in found)]
    if len(sides) < 2 or not all(any(_stands_in(answer, side) for answer in found) for side in sides[-2:]):
        return ()
    return tuple(found)


def ways_to_say(question: Question, answers: Sequence[str]) -> list[tuple[str, ...]]:
    """Texts to compare with the picture, way by way: each has one text an answer, in their order."""
    asked = question.text.strip()
    if tuple(answers) not in (YES_OR_NO, CHINESE_YES_OR_NO):
        return [tuple(way.format(question=asked, answer=answer) for answer in answers) for way in SAID]
    thing = asked_thing(asked)
    pair = [(thing, f"no {thing}")] if thing else []
    return pair + [tuple(way.format(question=asked, answer=answer) for answer in answers) for way in SAID_YES_OR_NO]


def asked_thing(question: str) -> str | None:
    """What an English question asks the presence of: of "Is there a nodule?" a nodule; None where it asks otherwise."""
    if OFFERS.search(question) or NEGATED.search(question):
        return None
    for pattern in THINGS:
        if found := pattern.fullmatch(question.strip()):
            return WHERE.sub("", found["thing"])
    return None


def _stands_in(answer: str, text: str) -> bool:
    if HAN_CHARACTER.search(text):  # words are not parted there
        return answer in text
    words = " ".join(WORD.findall(answer))
    return bool(words) and f" {words} " in f" {' '.join(WORD.findall(text))} "
