"""One `eval` run from questions to report, in an output folder that an interrupted run can go on in.

OUT/answers/WHO/BENCHMARK.jsonl  appended as answers come      OUT/answers.jsonl  all of them, at the end
OUT/scores.json                  OUT/report.html               OUT/pictures/      phantoms, where asked about
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llavamed_cli.benchmarks.open_benchmark import picture_folder, training_answers
from llavamed_cli.benchmarks.reading import KnownAnswer
from llavamed_cli.endpoint.asking import check_endpoint
from llavamed_cli.endpoint.leaving import remembered_hosts, say_leaving
from llavamed_cli.endpoint.server import resolve_url
from llavamed_cli.evaluation.answer_log import answer_all
from llavamed_cli.evaluation.answerers.answerer import Answerer
from llavamed_cli.evaluation.answerers.local_model import ModelShelf
from llavamed_cli.evaluation.answerers.open_answerers import Answering, open_answerer
from llavamed_cli.evaluation.plan import EvalPlan
from llavamed_cli.evaluation.question_set import QuestionSet, read_questions
from llavamed_cli.evaluation.report import write_report
from llavamed_cli.evaluation.scores import SCORES_FORMAT, ScoredAnswers, compare, score_answers, summarise
from llavamed_cli.evaluation.scoring.reference import normalize
from llavamed_cli.files import atomic_write, read_json, write_json
from llavamed_cli.progress import Progress
from llavamed_cli.run_record import Run, begin_run

SCORES_FILE = "scores.json"

Results = dict[str, dict[str, ScoredAnswers]]
"""benchmark -> answerer -> every question scored."""


def run_evaluation(plan: EvalPlan, progress: Progress) -> dict[str, Any]:
    """Ask, score and report; return what scores.json holds.

    Raises:
        UsageError, DataError, PictureError, ModelError: before a model is loaded, as far as that can be.
        OutputFolderError: the folder holds another run.
    """
    known = {title: _training_answers(title, plan) for title in plan.benchmarks}
    sets = {
        title: read_questions(title, name, picture_folder(name, plan.images), plan, progress)
        for title, name in plan.benchmarks.items()
        if name.file is not None
    }
    _check_servers(plan, progress)
    shelf = ModelShelf(plan.device)
    answerers = {title: _answerers(title, sets[title], known[title], shelf, plan, progress) for title in sets}
    run = begin_run(plan.out, "eval", options=_options(plan), inputs=_inputs(plan, sets), seed=plan.seed)
    if run.finished:
        progress.note(f"{plan.out} is finished already: these are its scores.")
        finished: dict[str, Any] = read_json(plan.out / SCORES_FILE, "scores")
        return finished
    for title, name in plan.benchmarks.items():
        if name.file is None:
            sets[title] = read_questions(title, name, plan.out / "pictures" / title, plan, progress)
            answerers[title] = _answerers(title, sets[title], known[title], shelf, plan, progress)
    for title in plan.benchmarks:
        for note in sets[title].notes:
            progress.note(f"{title}: {note}")
    shelf.on_load = partial(_record_choices, run, progress)
    results = _ask(plan, sets, answerers, known, progress)
    return _conclude(plan, run, sets, answerers, results)


def _training_answers(title: str, plan: EvalPlan) -> tuple[KnownAnswer, ...]:
    """Those of the training split; phantoms are drawn for them only where `majority` needs them."""
    name = plan.benchmarks[title]
    if name.kind == "phantoms" and not any(who.kind in ("majority", "clip") for who in plan.whos.values()):
        return ()
    return training_answers(name, train=plan.train, seed=plan.seed)


def _answerers(
    title: str,
    questions: QuestionSet,
    known: tuple[KnownAnswer, ...],
    shelf: ModelShelf,
    plan: EvalPlan,
    progress: Progress,
) -> dict[str, Answerer]:
    of = Answering(
        plan=plan,
        title=title,
        name=plan.benchmarks[title],
        questions=questions.questions,
        known=known,
        shelf=shelf,
        progress=progress,
    )
    return {name: open_answerer(who, of) for name, who in plan.whos.items()}


def _check_servers(plan: EvalPlan, progress: Progress) -> None:
    """Find what would stop a server's answers at once, and say that pictures leave this machine.

    Raises:
        UsageError: as `check_endpoint` and `say_leaving` do.
    """
    for who in plan.whos.values():
        if who.kind == "server":
            check_endpoint(plan.server.named(who.target, plan.server.base_url))
            if not who.blind:
                say_leaving(
                    urlsplit(resolve_url(plan.server.base_url)).netloc,
                    progress,
                    yes=plan.server.yes,
                    interactive=sys.stderr.isatty(),
                    remembered=remembered_hosts(),
                )


def _options(plan: EvalPlan) -> dict[str, Any]:
    return {
        "WHO": [who.text for who in plan.whos.values()],
        "--on": [name.text for name in plan.benchmarks.values()],
        "--limit": plan.limit,
        "--missing": plan.missing,
        "--max-new-tokens": plan.max_new_tokens,
        "--batch-size": plan.batch_size,
        "--device": plan.device,
    }


def _inputs(plan: EvalPlan, sets: Mapping[str, QuestionSet]) -> dict[str, Path | str]:
    inputs: dict[str, Path | str] = {}
    for title, questions in sets.items():
        inputs[f"questions of {title}"] = plan.benchmarks[title].place or title
        inputs[f"pictures of {title}"] = questions.pictures_sha256
    for name, who in plan.whos.items():
        if who.target:
            path = Path(who.target).expanduser()
            inputs[name] = path if path.exists() else who.target
    if any(who.kind == "server" for who in plan.whos.values()):
        inputs["server"] = resolve_url(plan.server.base_url)
    if plan.train is not None:
        inputs["--train"] = plan.train
    return inputs


def _record_choices(run: Run, progress: Progress, where: str, choices: Mapping[str, Any]) -> None:
    for name, choice in choices.items():
        run.choose(f"{name} of {where}", choice.value, choice.reason)
    chosen = ", ".join(f"{name} {choice.value} ({choice.reason})" for name, choice in choices.items())
    progress.note(f"{where}: {chosen}")


def _ask(
    plan: EvalPlan,
    sets: Mapping[str, QuestionSet],
    answerers: Mapping[str, Mapping[str, Answerer]],
    known: Mapping[str, tuple[KnownAnswer, ...]],
    progress: Progress,
) -> Results:
    """Every answerer on every benchmark; those that share a model come one after the other."""
    models = list(dict.fromkeys(who.model for who in plan.whos.values()))
    order = sorted(plan.whos, key=lambda name: models.index(plan.whos[name].model))
    answers = {
        (title, name): answer_all(
            answerers[title][name],
            questions.questions,
            _log(plan, name, title),
            who=name,
            benchmark=title,
            progress=progress,
        )
        for name in order
        for title, questions in sets.items()
    }
    candidates = {
        title: tuple(
            dict.fromkeys(normalize(text) for kind, text in known[title] if kind == "open" and name.kind != "phantoms")
        )
        for title, name in plan.benchmarks.items()
    }
    return {
        title: {
            name: score_answers(sets[title].questions, answers[title, name], candidates[title]) for name in plan.whos
        }
        for title in plan.benchmarks
    }


def _log(plan: EvalPlan, who: str, benchmark: str) -> Path:
    return plan.out / "answers" / who.replace(":", "+") / f"{benchmark}.jsonl"


def _conclude(
    plan: EvalPlan,
    run: Run,
    sets: Mapping[str, QuestionSet],
    answerers: Mapping[str, Mapping[str, Answerer]],
    results: Results,
) -> dict[str, Any]:
    """Write answers.jsonl, scores.json and report.html, and close the run."""
    scores = {
        "format": SCORES_FORMAT,
        "seed": plan.seed,
        "answerers": {name: who.text for name, who in plan.whos.items()},
        "benchmarks": {
            title: {
                **_describe(plan, sets[title]),
                "decoding": {name: answerers[title][name].decoding for name in plan.whos},
                **_scores(results[title], plan.seed),
            }
            for title in plan.benchmarks
        },
    }
    with atomic_write(plan.out / "answers.jsonl", "wb") as stream:
        for name in plan.whos:
            for title in plan.benchmarks:
                with _log(plan, name, title).open("rb") as log:
                    shutil.copyfileobj(log, stream)
    write_json(plan.out / SCORES_FILE, scores)
    write_report(plan.out / "report.html", scores, run.record, results, answerers)
    run.finish(questions={title: len(questions.questions) for title, questions in sets.items()})
    return scores


def _scores(results: Mapping[str, ScoredAnswers], seed: int) -> dict[str, Any]:
    """Every answerer alone, and every two compared."""
    return {
        "answerers": {name: summarise(scored, seed) for name, scored in results.items()},
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
