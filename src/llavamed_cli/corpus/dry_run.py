"""What a build would read, fetch and pay, told before anything is written: text is screened, no picture is touched.

From PMC's cloud the metadata and texts are fetched; with --cache the build itself does not ask for them again.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llavamed_cli.corpus.batches import Batch
from llavamed_cli.corpus.build_options import BuildOptions
from llavamed_cli.corpus.pipeline import screening_rules
from llavamed_cli.corpus.screening.stages import Rejection, ScreeningRules, screen_text
from llavamed_cli.corpus.sources.open_sources import locate_all
from llavamed_cli.corpus.teacher.choose import check_teacher, estimate_cost
from llavamed_cli.progress import Bar, Progress
from llavamed_cli.records import Figure


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a build would do.

    figures: how many were read; passed: how many of them their text lets through, before their pictures are looked
    at; to_fetch: how many of those lie on a server; ready: lessons of sources that bring their own conversations.
    """

    figures: int
    passed: int
    to_fetch: int
    ready: int
    reasons: dict[str, int]
    teacher: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """What --json prints."""
        return vars(self)

    def text(self) -> str:
        """What is printed for people."""
        lines = [f"would read {self.figures} figures; {self.passed} pass by their text"]
        lines.extend(f"  {count:>6}  {reason}" for reason, count in self.reasons.items())
        if self.to_fetch:
            lines.append(f"would fetch {self.to_fetch} pictures")
        if self.ready:
            lines.append(f"would write {self.ready} pictures that bring their own conversations")
        if self.teacher:
            lines.append(f"would ask the teacher: {self.teacher['told']}")
        return "\n".join(lines)


def rehearse(options: BuildOptions, progress: Progress) -> Rehearsal:
    """Read and screen the texts of all sources, and reckon what teaching them would cost.

    Raises:
        UsageError, DataError, FetchError: as building would.
    """
    sources = locate_all(options)
    rules = screening_rules(options)
    check_teacher(options, rules.domain)
    with tempfile.TemporaryDirectory() as scratch, progress.bar("read", total=None) as bar:
        reading = _Reading(options.limit)
        taught = reading.passing(sources.batches(rules, Path(scratch), progress, fetch=False), rules, bar)
        cost = estimate_cost(options, rules.domain, taught)
        for _ in taught:  # the offline teacher did not look at them
            pass
        ready = sum(1 for _ in sources.lessons(rules.domain, Path(scratch), lambda _: None, progress))
    teacher = {} if cost is None else {**cost.to_json(), "told": cost.text()}
    return Rehearsal(
        figures=reading.figures,
        passed=reading.passed,
        to_fetch=reading.to_fetch,
        ready=ready,
        reasons=dict(reading.reasons.most_common()),
        teacher=teacher,
    )


@dataclass
class _Reading:
    """Screens figures by their text, and counts. limit: passing figures after which the build would stop."""

    limit: int | None
    figures: int = 0
    passed: int = 0
    to_fetch: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def passing(self, batches: Iterator[Batch], rules: ScreeningRules, bar: Bar) -> Iterator[Figure]:
        """Yield the figures that pass."""
        for item in (item for batch in batches for item in batch.read()):
            screened = item if isinstance(item, Rejection) else screen_text(item, rules)
            self.figures += not isinstance(item, Rejection)
            bar.advance(passed=str(self.passed))
            if isinstance(screened, Rejection):
                self.reasons[f"{screened.stage}: {screened.reason}"] += 1
                continue
            self.passed += 1
            self.to_fetch += screened.figure.remote is not None
            yield screened.figure
            if self.passed == self.limit:
                break
