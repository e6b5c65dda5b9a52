"""report.html of an evaluation: what the page shows is chosen and ordered here, the template only lays it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llavamed_cli.evaluation.answerers.answerer import Answerer
from llavamed_cli.evaluation.headlines import OVERALL, REFERENCE, STRICT
from llavamed_cli.evaluation.scores import Scored
from llavamed_cli.files import write_text
from llavamed_cli.report_page import data_uri, render_page

EXAMPLES_SHOWN = 6
"""Of the right and of the wrong answers, each."""

PROPERTY_TITLES = {
    "question_type": "By question type",
    "organ": "By organ",
    "modality": "By modality",
    "phrasing": "By phrasing",
    "language": "By language",
}


def write_report(
    path: Path,
    scores: Mapping[str, Any],
    run: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Sequence[Scored]]],
    answerers: Mapping[str, Mapping[str, Answerer]],
) -> None:
    """Write the page.

    Args:
        scores: what scores.json holds. run: what run.json holds.
        results: benchmark -> answerer -> every question scored, all over the same questions.
    """
    sections = [
        {
            "title": title,
            **read,
            "strata": _strata(read["answerers"]),
            "examples": _examples(results[title], answerers[title]),
        }
        for title, read in scores["benchmarks"].items()
    ]
    page = render_page(
        "eval.html.j2",
        sections=sections,
        answerers=scores["answerers"],
        first=next(iter(scores["answerers"])),
        score_sets=[("Reference scores", REFERENCE), ("Strict scores", STRICT)],
        difference_headlines=STRICT,
        strata_headlines=[OVERALL, *STRICT],
        run=run,
    )
    write_text(path, page)


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
                    "answered": {who: scores["by"][name][stratum] for who, scores in answered.items()},
                }
                for stratum, block in strata.items()
            ],
        }
        for name, strata in first["by"].items()
    ]


def _examples(results: Mapping[str, Sequence[Scored]], answerers: Mapping[str, Answerer]) -> list[dict[str, Any]]:
    """The first answerer's surest mistakes and surest right answers, beside what the others said."""
    answers = {who: {one.question.id: one for one in scored} for who, scored in results.items()}
    first = next(iter(results))
    ranked = sorted(results[first], key=lambda one: (-(one.answer.confidence or 0), one.question.id))
    wrong = _one_a_picture(one for one in ranked if not one.right)
    right = _one_a_picture(one for one in ranked if one.right)
    return [
        {"title": title, "cards": [_card(one, answers, answerers) for one in chosen]}
        for title, chosen in (("Wrong, and most sure of it", wrong), ("Right, and most sure of it", right))
        if chosen
    ]


def _one_a_picture(ranked: Iterable[Scored]) -> list[Scored]:
    """The first of each picture, open and closed in turn where there are both."""
    seen: set[str] = set()
    kinds: dict[str, list[Scored]] = {"open": [], "closed": []}
    for one in ranked:
        kind = kinds[one.question.answer_type]
        if one.question.image not in seen and len(kind) < EXAMPLES_SHOWN:
            seen.add(one.question.image)
            kind.append(one)
    half = EXAMPLES_SHOWN // 2
    lacking_open = max(0, half - len(kinds["open"]))
    lacking_closed = max(0, half - len(kinds["closed"]))
    return [*kinds["open"][: half + lacking_closed], *kinds["closed"][: half + lacking_open]]


def _card(
    one: Scored, answers: Mapping[str, Mapping[str, Scored]], answerers: Mapping[str, Answerer]
) -> dict[str, Any]:
    from llavamed_cli.model.images import open_picture

    question = one.question
    return {
        "picture": data_uri(open_picture(question.picture)),
        "image": question.image,
        "id": question.id,
        "reference": question.answer,
        "types": ", ".join((question.answer_type, *question.question_types)),
        "said": [
            {
                "who": who,
                "prompt": answerers[who].prompt(question),
                "text": by_id[question.id].answer.text,
                "confidence": by_id[question.id].answer.confidence,
                "right": by_id[question.id].right,
            }
            for who, by_id in answers.items()
        ],
    }
