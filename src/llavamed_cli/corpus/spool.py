"""What screening found, kept in the run's scratch folder until the data set is written.

Screening ends before teaching begins, so that figures can be drawn evenly, held out and priced; and a run that is
interrupted while it teaches does not screen again. The files appear together, when screening is through.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import IO, Any

from llavamed_cli.corpus.candidates import Candidate, candidate_from_json
from llavamed_cli.corpus.screening.stages import Rejection
from llavamed_cli.files import atomic_write, json_line, read_json, write_json
from llavamed_cli.records import Fault

CANDIDATES, REJECTED, SUMMARY = "candidates.jsonl", "rejected.jsonl", "screened.json"
SHOWN_PER_REASON = 2
FIRST_FEW = 10
CAPTION_SHOWN = 240


@dataclass(frozen=True)
class ShownRejection:
    """A sample of what was set aside for one reason. picture: where it lay then; None where none was at hand.

    caption: its first CAPTION_SHOWN characters.
    """

    id: str | None
    detail: str | None
    picture: str | None
    caption: str | None


@dataclass
class Rejections:
    """Counts by (stage, reason), with samples drawn by the seed. first: the first few of all, to name at once."""

    seed: int
    first: list[Fault] = field(default_factory=list)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    shown: dict[tuple[str, str], list[ShownRejection]] = field(default_factory=dict)

    def add(self, rejection: Rejection) -> None:
        """Count one, and keep it for the report with a fair chance (reservoir sampling, Vitter 1985, algorithm R)."""
        key = (rejection.stage, rejection.reason)
        self.reasons[key] += 1
        if len(self.first) < FIRST_FEW and rejection.stage != "teacher":
            told = f"{rejection.reason} ({rejection.detail})" if rejection.detail else rejection.reason
            self.first.append(Fault(where=rejection.where, reason=told, record_id=rejection.id))
        shown = self.shown.setdefault(key, [])
        picture = str(rejection.picture) if rejection.picture else None
        caption = shorten(rejection.caption, CAPTION_SHOWN, placeholder=" ...") if rejection.caption else None
        sample = ShownRejection(rejection.id, rejection.detail, picture, caption)
        if len(shown) < SHOWN_PER_REASON:
            shown.append(sample)
            return
        choice = random.Random(f"{self.seed}/{rejection.stage}/{rejection.reason}/{self.reasons[key]}")
        if (place := choice.randrange(self.reasons[key])) < SHOWN_PER_REASON:
            shown[place] = sample

    @property
    def total(self) -> int:
        """How many there are."""
        return self.reasons.total()

    def to_json(self) -> dict[str, Any]:
        """A record that `rejections_from_json` reads back."""
        rows = [
            {"stage": stage, "reason": reason, "count": count, "shown": [vars(s) for s in self.shown[stage, reason]]}
            for (stage, reason), count in self.reasons.items()
        ]
        return {"first": [vars(fault) for fault in self.first], "reasons": rows}


def rejections_from_json(record: dict[str, Any], seed: int) -> Rejections:
    """What `Rejections.to_json` wrote."""
    rejections = Rejections(seed, first=[Fault(**fault) for fault in record["first"]])
    for row in record["reasons"]:
        key = (row["stage"], row["reason"])
        rejections.reasons[key] = row["count"]
        rejections.shown[key] = [ShownRejection(**shown) for shown in row["shown"]]
    return rejections


@dataclass(frozen=True)
class Spool:
    """The screened figures of a run. folder: its scratch."""

    folder: Path
    rejections: Rejections
    kept: int

    @property
    def rejected_file(self) -> Path:
        """The lines of rejected.jsonl that screening wrote."""
        return self.folder / REJECTED

    def candidates(self) -> Iterator[Candidate]:
        """The figures that passed, in the order of the sources."""
        with (self.folder / CANDIDATES).open(encoding="utf-8") as stream:
            for line in stream:
                yield candidate_from_json(json.loads(line))


class SpoolWriter:
    """Takes candidates and rejections, one at a time. Made by `write_spool`."""

    def __init__(self, candidates: IO[str], rejected: IO[str], seed: int) -> None:
        self.kept = 0
        self.rejections = Rejections(seed)
        self._candidates, self._rejected = candidates, rejected

    def keep(self, candidate: Candidate) -> None:
        """Write a figure that passed."""
        self._candidates.write(json_line(candidate.to_json()))
        self.kept += 1

    def reject(self, rejection: Rejection) -> None:
        """Write what was set aside, and why."""
        self._rejected.write(json_line(rejection.to_json()))
        self.rejections.add(rejection)


@contextmanager
def write_spool(folder: Path, seed: int) -> Iterator[SpoolWriter]:
    """Open the spool in `folder` for writing; it counts as written when the block ends without an error."""
    with atomic_write(folder / REJECTED) as rejected, atomic_write(folder / CANDIDATES) as candidates:
        writer = SpoolWriter(candidates, rejected, seed)
        yield writer
    write_json(folder / SUMMARY, {"kept": writer.kept, "rejections": writer.rejections.to_json()})


def read_spool(folder: Path, seed: int) -> Spool | None:
    """The spool of a run that was interrupted after its screening; None if screening is still to do."""
    if not (folder / SUMMARY).is_file():
        return None
    summary = read_json(folder / SUMMARY, "the summary of screening")
    return Spool(folder, rejections_from_json(summary["rejections"], seed), summary["kept"])
