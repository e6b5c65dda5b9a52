"""report.html of a data set: the funnel with its reasons, licences, modalities, and samples with their pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from llavamed_cli.corpus.data_folder import LENGTH_BIN, QUALITY_BINS, Shown, Tally
from llavamed_cli.corpus.screening.stages import Stage
from llavamed_cli.corpus.spool import Rejections
from llavamed_cli.errors import PictureError
from llavamed_cli.files import write_text
from llavamed_cli.model.images import open_picture
from llavamed_cli.records import IMAGE_MARKER, Sample
from llavamed_cli.report_page import data_uri, render_page

REPORT = "report.html"
LENGTH_BINS = 30
SMALL = 200
"""Pixels: the longest side of a picture that was set aside."""


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
        dropped=_shares(tally.dropped),
        qualities=_columns(tally.qualities, QUALITY_BINS, lambda bin: f"{bin / QUALITY_BINS:.2f}"),
        lengths=_columns(tally.lengths, LENGTH_BINS, lambda bin: f"from {bin * LENGTH_BIN} words"),
        set_aside=_set_aside(tally.rejections),
        samples=[_card(item) for item in shown],
    )
    write_text(out / REPORT, page)


def _funnel(tally: Tally) -> list[dict[str, Any]]:
    """One row a reason, in the order of the stages, with what was left after it."""
    left = tally.kept + tally.rejected
    rows = []
    for stage in get_args(Stage):
        for (at, reason), count in sorted(tally.rejections.reasons.items()):
            if at == stage and stage != "teacher":
                left -= count
                rows.append({"stage": stage, "reason": reason, "count": count, "left": left})
    return rows


def _shares(counts: Counter[str]) -> list[dict[str, Any]]:
    total = max(sum(counts.values()), 1)
    return [{"name": name, "count": count, "share": count / total} for name, count in counts.most_common()]


def _columns(counts: Counter[int], bins: int, name: Callable[[int], str]) -> list[dict[str, Any]]:
    """A histogram's columns, as shares of the highest; what lies beyond the last bin counts in it."""
    if not counts:
        return []
    heights = Counter({bin: counts[bin] for bin in range(bins - 1)})
    heights[bins - 1] = sum(count for bin, count in counts.items() if bin >= bins - 1)
    highest = max(heights.values())
    return [{"name": name(bin), "count": heights[bin], "share": heights[bin] / highest} for bin in range(bins)]


def _set_aside(rejections: Rejections) -> list[dict[str, Any]]:
    """Samples of what was set aside, a few a reason, with their pictures where these still lie where they lay."""
    return [
        {"reason": f"{stage}: {reason}", "item": item, "picture": _thumbnail(item.picture)}
        for (stage, reason), items in sorted(rejections.shown.items(), key=lambda entry: _order(entry[0]))
        for item in items
    ]


def _order(key: tuple[str, str]) -> tuple[int, str]:
    return get_args(Stage).index(key[0]), key[1]


def _thumbnail(picture: str | None) -> str | None:
    if picture is None:
        return None
    try:
        return data_uri(open_picture(Path(picture)), SMALL)
    except PictureError:
        return None


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
        "conversations": [
            *([("align", _exchanges(item.align))] if item.align else []),
            *(("instruct", _exchanges(sample)) for sample in item.instruct),
        ],
    }


def _exchanges(sample: Sample) -> list[tuple[str, str]]:
    texts = [turn.text.replace(IMAGE_MARKER, "").strip() for turn in sample.turns]
    return list(zip(texts[::2], texts[1::2], strict=True))
