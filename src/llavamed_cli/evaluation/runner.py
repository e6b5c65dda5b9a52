"""One `eval` run from questions to report, in an output folder that an interrupted run can go on in.

OUT/answers/WHO/BENCHMARK.jsonl  appended as answers come      OUT/answers.jsonl  all of them, at the end
OUT/reviews.jsonl                a judge's              OUT/judge.sqlite  what it was asked and paid
OUT/journal.sqlite               what servers' models were asked and paid
OUT/descriptions/WHO/BENCHMARK.jsonl  what a cascade's experts said of pictures
OUT/pictures/                    of benchmarks that bring their own; what is written at the end: see conclusion.py
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from llavamed_cli.benchmarks.open_benchmark import picture_folder, training_answers
from llavamed_cli.benchmarks.reading import KnownAnswer
from llavamed_cli.endpoint.server import resolve_url
from llavamed_cli.errors import LlavamedError, OutputFolderError
from llavamed_cli.evaluation.answer_log import answer_all
from llavamed_cli.evaluation.answerers.answerer import Answerer
from llavamed_cli.evaluation.answerers.cascade_file import read_cascade
from llavamed_cli.evaluation.answerers.local_model import ModelShelf
from llavamed_cli.evaluation.answerers.open_answerers import Answering, check_servers, open_answerer
from llavamed_cli.evaluation.conclusion import SCORES_FILE, Results, answer_file, conclude
from llavamed_cli.evaluation.contamination import training_pictures
from llavamed_cli.evaluation.judge.judging import check_judge, judge_answers
from llavamed_cli.evaluation.plan import EvalPlan
from llavamed_cli.evaluation.question_set import QuestionSet, read_questions
from llavamed_cli.evaluation.scores import score_answers
from llavamed_cli.evaluation.scoring.reference import normalize
from llavamed_cli.files import read_json
from llavamed_cli.progress import Progress
from llavamed_cli.run_record import Run, begin_run
from llavamed_cli.world import ALONE, World


def run_evaluation(plan: EvalPlan, progress: Progress, world: World = ALONE) -> dict[str, Any]:
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
    for folder in plan.trained_on:
        training_pictures(folder)
    check_servers(plan, progress)
    if plan.judge is not None:
        check_judge(plan.judge)
    shelf = ModelShelf(plan.device, world)
    answerers = {title: _answerers(title, sets[title], known[title], shelf, plan, progress) for title in sets}
    run = begin_run(plan.out, "eval", options=_options(plan), inputs=_inputs(plan, sets), seed=plan.seed)
    if run.finished:
        progress.note(f"{plan.out} is finished already: these are its scores.")
        finished: dict[str, Any] = read_json(plan.out / SCORES_FILE, "scores")
        return finished
    for title, name in plan.benchmarks.items():
        if name.file is None:
            sets[title] = _read_with_pictures(title, plan, run, progress)
            answerers[title] = _answerers(title, sets[title], known[title], shelf, plan, progress)
    for title in plan.benchmarks:
        for note in sets[title].notes:
            progress.note(f"{title}: {note}")
    shelf.on_load = partial(_record_choices, run, progress)
    results = _ask(plan, sets, answerers, known, progress)
    judged = judge_answers(plan.judge, results, plan.out, progress, seed=plan.seed) if plan.judge else None
    return conclude(plan, run, sets, answerers, results, judged, progress)


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


def _read_with_pictures(title: str, plan: EvalPlan, run: Run, progress: Progress) -> QuestionSet:
    """A benchmark that brings its pictures, which are put into the run's folder.

    Raises:
        OutputFolderError: they are not what the interrupted run asked about. As `read_questions`: nothing is left
            behind then, so that the folder may be given to a corrected command.
    """
    pictures = plan.out / "pictures"
    try:
        questions = read_questions(title, plan.benchmarks[title], pictures / title, plan, progress)
    except LlavamedError:
        if not run.resumed:
            shutil.rmtree(pictures, ignore_errors=True)
        raise
    name, digest = f"questions of {title}", questions.sha256
    before = run.record["choices"].get(name, {}).get("value", digest)
    if before != digest:
        raise OutputFolderError(
            f"{plan.benchmarks[title].text} has changed since this run began",
            where=str(plan.out),
            hint="Give another --out to ask about it as it is now.",
        )
    run.choose(name, digest, "SHA-256 of what was asked and of its pictures")
    return questions


def _options(plan: EvalPlan) -> dict[str, Any]:
    return {
        "WHO": [who.text for who in plan.whos.values()],
        "--on": [name.text for name in plan.benchmarks.values()],
        "--limit": plan.limit,
        "--missing": plan.missing,
        "--max-new-tokens": plan.max_new_tokens,
        "--batch-size": plan.batch_size,
        "--device": plan.device,
        "--trained-on": [str(folder) for folder in plan.trained_on],
        "--judge": plan.judge and f"{plan.judge.name} at {resolve_url(plan.judge.base_url)}",
    }


def _inputs(plan: EvalPlan, sets: Mapping[str, QuestionSet]) -> dict[str, Path | str]:
    inputs: dict[str, Path | str] = {}
    for title, questions in sets.items():
        inputs[f"questions of {title}"] = plan.benchmarks[title].place or title
        inputs[f"pictures of {title}"] = questions.pictures_sha256
    for name, who in plan.whos.items():
        if who.kind == "server":
            inputs[name] = f"{who.target} at {resolve_url(plan.server.base_url)}"
        elif who.target:
            path = Path(who.target).expanduser()
            inputs[name] = path if path.exists() else who.target
        if who.kind == "cascade":
            for part, place in read_cascade(Path(who.target)).parts.items():
                inputs[f"{name}, {part}"] = Path(place) if Path(place).exists() else place
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
            answer_file(plan, name, title),
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
