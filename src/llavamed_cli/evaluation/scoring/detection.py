"""Which questions ask whether something is wrong or there, and which answer says so: for sensitivity and specificity.

Two kinds are counted apart, both among closed questions that are answered yes or no:

- "abnormality": question type ABN (VQA-RAD) or Abnormality (SLAKE). Positive is what is not normal: a question that
  asks for the normal ("Is the lung healthy?", 肺是正常的吗) is positive where the true answer is no.
- "presence": question type PRES (VQA-RAD) or Presence. Positive is what is there, a finding or not.

A question that itself denies ("Is anything not normal?", "Is there no evidence of ...") is in neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from llavamed_cli.evaluation.scoring.verdicts import Verdict, asks_yes_or_no, yes_or_no
from llavamed_cli.records import Question

DetectionKind = Literal["abnormality", "presence"]

TYPES: Mapping[str, DetectionKind] = {
    "abn": "abnormality",
    "abnormality": "abnormality",
    "pres": "presence",
    "presence": "presence",
}
ASKS_FOR_NORMAL = re.compile(
    r"\b(normal|normally|healthy|unaltered|unaffected|unremarkable|typical)\b|(?<!不)(正常|健康)", re.IGNORECASE
)
DENIES = re.compile(r"\b(no|not|without|free of)\b|n['’]t\b|(?<!有)没有", re.IGNORECASE)


def detection_kinds(question: Question) -> frozenset[DetectionKind]:
    """The kinds that a question belongs to; none if it is not answered yes or no."""
    kinds = frozenset(TYPES[name.lower()] for name in question.question_types if name.lower() in TYPES)
    counts = question.answer_type == "closed" and asks_yes_or_no(question.answer) != "unparsed"
    return kinds if counts and not DENIES.search(question.text) else frozenset()


def says_positive(kind: DetectionKind, question: Question, text: str) -> bool | None:
    """Whether an answer, or the reference, says that it is abnormal, or there; None if it cannot be read."""
    verdict: Verdict = yes_or_no(text)
    if verdict == "unparsed":
        return None
    turned = kind == "abnormality" and ASKS_FOR_NORMAL.search(question.text) is not None
    return (verdict == "yes") != turned
