"""The page as a whole: sections by benchmark, then how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llavamed_cli.evaluation.answerers.answerer import Answerer
from llavamed_cli.evaluation.headlines import OVERALL, REFERENCE, STRICT
from llavamed_cli.evaluation.judge.table import COLUMNS, EXPLAINED, judge_cells, judge_notes
from llavamed_cli.evaluation.provenance import Provenance
from llavamed_cli.evaluation.report.examples import Results, open_side_by_side, worst_and_best
from llavamed_cli.evaluation.report.forest import PROPERTY_TITLES, draw_forest
from llavamed_cli.evaluation.report.tripod import AUTHORS, tripod_items
from llavamed_cli.evaluation.table import counts, notes, p_value
from llavamed_cli.files import write_text
from llavamed_cli.report_page import render_page

DETECTION_TITLES = {"abnormality": "Is anything abnormal?", "presence": "Is it there?"}


def write_report(
    path: Path,
    scores: Mapping[str, Any],
    run: Mapping[str, Any],
    results: Mapping[str, Results],
    answerers: Mapping[str, Mapping[str, Answerer]],
    provenance: Provenance,
) -> None:
    """Write the page.

    Args:
        scores: what scores.json holds. run: what run.json holds.
        results: benchmark -> answerer -> every question scored, all over the same questions.
    """
    page = render_page(
        "eval.html.j2",
        sections=[
            _section(number, title, read, results[title], answerers[title])
            for number, (title, read) in enumerate(scores["benchmarks"].items(), start=1)
        ],
        answerers=scores["answerers"],
        columns=[*REFERENCE, OVERALL, *STRICT],
        reference=REFERENCE,
        strict=[OVERALL, *STRICT],
        detection_titles=DETECTION_TITLES,
        judge_columns=COLUMNS,
        judge_cells=judge_cells,
        judge_explained=EXPLAINED,
        p_value=p_value,
        run=run,
        items=tripod_items(scores, run, provenance),
        tripod_authors=AUTHORS,
    )
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))


def _section(
    number: int, title: str, read: Mapping[str, Any], results: Results, answerers: Mapping[str, Answerer]
) -> dict[str, Any]:
    judge = read.get("judge")
    return {
        **read,
        "title": title,
        "anchor": f"benchmark-{number}",
        "counts": counts(read),
        "remarks": [*read["notes"], *notes(read)],
        "forest": draw_forest(read["answerers"]),
        "strata": _strata(read["answerers"]),
        "detected": _detected(read["answerers"]),
        "examples": worst_and_best(results, answerers),
        "side_by_side": open_side_by_side(results, answerers),
        "judge": judge,
        "judge_notes": judge_notes(judge) if judge else [],
        "contamination": read.get("contamination", []),
    }


def _strata(answered: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One table a property: its strata, each with the scores of every answerer."""
    first = next(iter(answered.values()))
    return [
        {
            "title": PROPERTY_TITLES[name],
            "rows": [
                {
                    "name": stratum,
                    "n": block["overall"]["n"],
                    "pictures": block["overall"]["pictures"],
                    "answered": {who: scores["by"][name][stratum] for who, scores in answered.items()},
                }
                for stratum, block in strata.items()
            ],
        }
        for name, strata in first["by"].items()
    ]


def _detected(answered: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Kind of question -> answerer -> its counts, sensitivity and specificity."""
    kinds = dict.fromkeys(kind for scores in answered.values() for kind in scores["detection"])
    return {kind: {who: scores["detection"][kind] for who, scores in answered.items()} for kind in kinds}
