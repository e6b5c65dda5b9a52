"""The end of an `eval` run: answers scored and compared, and the folder's files written.

OUT/questions/BENCHMARK.jsonl   what was asked      OUT/answers.jsonl   what was answered
OUT/scores.json                 see scores.py       OUT/report.html
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from llavamed_cli.evaluation.answerers.answerer import Answerer
from llavamed_cli.evaluation.contamination import Overlap, TrainingSets, find_overlaps, recorded_training, seen_images
from llavamed_cli.evaluation.judge.judging import Judgement
from llavamed_cli.evaluation.plan import EvalPlan
from llavamed_cli.evaluation.provenance import Provenance, describe_machine, describe_models, first_prompt
from llavamed_cli.evaluation.question_file import write_questions
from llavamed_cli.evaluation.question_set import QuestionSet
from llavamed_cli.evaluation.report import write_report
from llavamed_cli.evaluation.scores import SCORES_FORMAT, ScoredAnswers, compare, summarise
from llavamed_cli.files import atomic_write, write_json
from llavamed_cli.progress import Progress
from llavamed_cli.run_record import Run

SCORES_FILE = "scores.json"

Results = dict[str, dict[str, ScoredAnswers]]
"""benchmark -> answerer -> every question scored."""
Answerers = Mapping[str, Mapping[str, Answerer]]
"""The same of who answered."""


def answer_file(plan: EvalPlan, who: str, benchmark: str) -> Path:
    """Where one answerer's answers to a benchmark are appended."""
    return plan.out / "answers" / who.replace(":", "+") / f"{benchmark}.jsonl"


def conclude(
    plan: EvalPlan,
    run: Run,
    sets: Mapping[str, QuestionSet],
    answerers: Answerers,
    results: Results,
    judged: Judgement | None,
    progress: Progress,
) -> dict[str, Any]:
    """Write what the module's docstring lists, and close the run. Returns what scores.json holds."""
    overlaps = _overlaps(plan, sets, progress)
    scores = {
        "format": SCORES_FORMAT,
        "seed": plan.seed,
        "answerers": {name: who.text for name, who in plan.whos.items()},
        "benchmarks": {
            title: {
                **_describe(plan, sets[title]),
                "contamination": [overlap.as_json() for overlap in overlaps[title]],
                "decoding": {name: answerers[title][name].decoding for name in plan.whos},
                **_scores(results[title], overlaps[title], plan.seed),
                **({"judge": judged.by_benchmark[title]} if judged and title in judged.by_benchmark else {}),
            }
            for title in plan.benchmarks
        },
    }
    for title, questions in sets.items():
        write_questions(plan.out, title, questions.questions)
    with atomic_write(plan.out / "answers.jsonl", "wb") as stream:
        for name in plan.whos:
            for title in plan.benchmarks:
                with answer_file(plan, name, title).open("rb") as log:
                    shutil.copyfileobj(log, stream)
    write_json(plan.out / SCORES_FILE, scores)
    provenance = _provenance(plan, run, sets, answerers, progress)
    write_report(plan.out / "report.html", scores, run.record, results, answerers, provenance)
    run.finish(
        questions={title: len(questions.questions) for title, questions in sets.items()},
        judge=judged and judged.spent,
        models=provenance.models,
        machine=provenance.machine,
    )
    return scores


def _overlaps(plan: EvalPlan, sets: Mapping[str, QuestionSet], progress: Progress) -> dict[str, list[Overlap]]:
    """The benchmarks' pictures in what is told, or known from the models' own run.json, to have been trained on."""
    recorded = [
        folder
        for who in plan.whos.values()
        if who.kind == "model"
        for folder in recorded_training(Path(who.target).expanduser())
    ]
    known = TrainingSets(
        images=plan.images,
        train=plan.train,
        folders=tuple(dict.fromkeys((*plan.trained_on, *recorded))),
        seed=plan.seed,
    )
    benchmarks = {title: (name, sets[title].questions) for title, name in plan.benchmarks.items()}
    return find_overlaps(benchmarks, known, progress)


def _provenance(
    plan: EvalPlan, run: Run, sets: Mapping[str, QuestionSet], answerers: Answerers, progress: Progress
) -> Provenance:
    prompts = {
        (title, name): first_prompt(who, answerers[title][name].prompt(sets[title].questions[0]))
        for title in sets
        for name, who in plan.whos.items()
    }
    return Provenance(
        models=describe_models(plan.whos, progress),
        machine=describe_machine(),
        prompts={place: prompt for place, prompt in prompts.items() if prompt is not None},
        seconds=run.seconds,
    )


def _scores(results: Mapping[str, ScoredAnswers], overlaps: list[Overlap], seed: int) -> dict[str, Any]:
    """Every answerer alone, and every two compared."""
    seen = seen_images(overlaps)
    return {
        "answerers": {name: summarise(scored, seed, seen) for name, scored in results.items()},
        "differences": [
            {"first": first, "second": second, **compare(results[first], results[second], seed)}
            for first, second in combinations(results, 2)
        ],
    }


def _describe(plan: EvalPlan, questions: QuestionSet) -> dict[str, Any]:
    kinds = [question.answer_type for question in questions.questions]
    return {
        "benchmark": plan.benchmarks[questions.title].text,
        "n": len(kinds),
        "open": kinds.count("open"),
        "closed": kinds.count("closed"),
        "pictures": len({question.image for question in questions.questions}),
        "pictures_sha256": questions.pictures_sha256,
        "left_out": [asdict(fault) for fault in questions.faults],
        "notes": list(questions.notes),
        "license": questions.read.license,
        "citation": questions.read.citation,
    }
