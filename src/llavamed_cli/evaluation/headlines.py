"""The few numbers that lead the table and the report, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Headline:
    """One number: where it stands in an answerer's scores, and what it is called."""

    group: str
    score_set: str
    metric: str
    title: str

    def find(self, scores: Mapping[str, Any]) -> dict[str, Any] | None:
        """Its interval in the scores of an answerer, a stratum or a difference; None if no question bears on it."""
        found: dict[str, Any] | None = scores.get(self.group, {}).get(self.score_set, {}).get(self.metric)
        return found


REFERENCE = (
    Headline("open", "reference", "recall", "open: recall"),
    Headline("closed", "reference", "closed_accuracy", "closed: accuracy"),
)
STRICT = (
    Headline("open", "strict", "accuracy", "open: exact match"),
    Headline("open", "strict", "f1", "open: F1"),
    Headline("closed", "strict", "accuracy", "closed: accuracy"),
)
OVERALL = Headline("overall", "strict", "accuracy", "all: accuracy")
DETECTION = (
    Headline("detection", "abnormality", "sensitivity", "abnormal: sens."),
    Headline("detection", "abnormality", "specificity", "abnormal: spec."),
    Headline("detection", "presence", "sensitivity", "present: sens."),
    Headline("detection", "presence", "specificity", "present: spec."),
)
"""Only of questions that are of the kind; see scoring/detection.py."""
