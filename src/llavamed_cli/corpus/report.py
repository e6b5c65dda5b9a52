"""report.html of a data set: the funnel with its reasons, licences, modalities, and samples with their pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from llavamed_cli.corpus.data_folder import Shown, Tally
from llavamed_cli.corpus.screening import Stage
from llavamed_cli.files import write_text
from llavamed_cli.model.images import open_picture
from llavamed_cli.records import IMAGE_MARKER, Sample
from llavamed_cli.report_page import data_uri, render_page

REPORT = "report.html"


def write_report(out: Path, sources: Sequence[str], tally: Tally, shown: Sequence[Shown]) -> None:
    """Write the report into `out`."""
    page = render_page(
        "build_data.html.j2",
        sources=sources,
        tally=tally,
        found=tally.kept + tally.rejected,
        funnel=_funnel(tally),
        licenses=_shares(tally.licenses),
        modalities=_shares(tally.modalities),
        samples=[_card(item) for item in shown],
    )
    write_text(out / REPORT, page)


def _funnel(tally: Tally) -> list[dict[str, Any]]:
    """One row a reason, in the order of the stages, with what was left after it."""
    left = tally.kept + tally.rejected
    rows = []
    for stage in get_args(Stage):
        for (at, reason), count in sorted(tally.reasons.items()):
            if at == stage and stage != "teacher":
                left -= count
                rows.append({"stage": stage, "reason": reason, "count": count, "left": left})
    return rows


def _shares(counts: Counter[str]) -> list[dict[str, Any]]:
    total = max(sum(counts.values()), 1)
    return [{"name": name, "count": count, "share": count / total} for name, count in counts.most_common()]


def _card(item: Shown) -> dict[str, Any]:
    lesson = item.lesson
    return {
        "id": lesson.id,
        "picture": data_uri(open_picture(item.picture)),
        "modality": lesson.modality,
        "evidence": ", ".join(lesson.evidence),
        "quality": lesson.quality,
        "parts": [(name, part) for name, part in lesson.quality_parts.items() if part],
        "source": lesson.caption_source or lesson.source,
        "conversations": [("align", _exchanges(item.align)), *(("instruct", _exchanges(s)) for s in item.instruct)],
    }


def _exchanges(sample: Sample) -> list[tuple[str, str]]:
    texts = [turn.text.replace(IMAGE_MARKER, "").strip() for turn in sample.turns]
    return list(zip(texts[::2], texts[1::2], strict=True))
