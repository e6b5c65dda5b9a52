"""`llavamed eval`: how well questions about pictures are answered, and how much of that needs the picture."""

from __future__ import annotations

from llavamed_cli.cli import eval_options as option
from llavamed_cli.cli import judge_options as judging
from llavamed_cli.cli.options import Debug, Device, Images, Json, Quiet, Seed
from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.errors import UsageError
from llavamed_cli.records import Fault

EXAMPLES = """
Examples:

llavamed eval tuned blind:tuned majority --on "vqa-rad:VQA_RAD Dataset Public.json" --images images --out report

llavamed eval tuned blind:tuned --on phantoms:200 --out report

llavamed eval tuned nearest openai:gpt-4o --on slake-en:Slake1.0 --budget 5 --out report

llavamed eval llava blind:llava --base-url http://127.0.0.1:8000/v1 --on phantoms:200 --out report

llavamed eval answers:theirs.jsonl majority --on questions.jsonl --train training.jsonl --out report

llavamed eval compare report-of-may report-of-june

llavamed eval tuned --on llava-med-chat:questions.jsonl --judge gpt-4o --judge-budget 5 --out report
"""


def evaluate(
    who: option.Whos = None,
    on: option.On = None,
    out: option.OutFolder = None,
    images: Images = None,
    train: option.Train = None,
    trained_on: option.TrainedOn = None,
    limit: option.Limit = None,
    missing: option.Missing = "error",
    max_new_tokens: option.MaxNewTokens = 64,
    batch_size: option.BatchSize = None,
    base_url: option.BaseUrl = None,
    budget: option.Budget = None,
    price: option.Price = None,
    concurrency: option.Concurrency = 16,
    yes: option.Yes = False,
    judge: judging.Judge = None,
    judge_base_url: judging.JudgeBaseUrl = None,
    judge_budget: judging.JudgeBudget = None,
    judge_price: judging.JudgePrice = None,
    reviews: judging.Reviews = None,
    markdown: option.Markdown = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer a benchmark's questions, and score the answers in two ways, with intervals.

    Writes answers.jsonl, scores.json and report.html. The same command repeated goes on where it stopped.
    """
    from llavamed_cli.endpoint.prices import parse_price
    from llavamed_cli.evaluation.answerers.crew import dismiss, help_answering
    from llavamed_cli.evaluation.answerers.local_model import ModelShelf
    from llavamed_cli.evaluation.markdown import markdown_tables
    from llavamed_cli.evaluation.plan import EvalPlan, ServerOptions, name_answerers, name_benchmarks
    from llavamed_cli.evaluation.runner import run_evaluation
    from llavamed_cli.evaluation.table import score_table
    from llavamed_cli.world import is_lead, open_world

    terminal = Terminal(as_json=as_json, quiet=quiet, silent=not is_lead())
    if reviews is not None:
        if who or on or out:
            raise UsageError("--reviews scores a file of reviews alone", hint="Leave out WHO, --on and --out.")
        judging.rescore_reviews(reviews, seed, terminal)
        return
    if not who or not on or out is None:
        raise UsageError("expected WHO, --on NAME:PATH and --out DIR", hint="llavamed eval --help has examples.")
    plan = EvalPlan(
        whos=name_answerers(who, served=base_url is not None),
        benchmarks=name_benchmarks(on),
        out=out,
        images=images,
        train=train,
        trained_on=tuple(trained_on or ()),
        limit=limit,
        missing=missing,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        device=device,
        seed=seed,
        server=ServerOptions(
            base_url=base_url,
            budget=budget,
            price=parse_price(price),
            concurrency=concurrency,
            yes=yes,
            interactive=terminal.is_read,
        ),
        judge=judging.judge_options(judge, judge_base_url, judge_budget, judge_price, concurrency),
    )
    terminal.quiet_libraries()
    with open_world(device) as world:
        if not world.leads:
            help_answering(world, ModelShelf(device).answer)
            return
        scores = run_evaluation(plan, terminal, world)
        dismiss(world)
    for read in scores["benchmarks"].values():
        terminal.faults([Fault(**fault) for fault in read["left_out"]], kept=read["n"])
    terminal.result(markdown_tables(scores) if markdown else score_table(scores), scores)
    terminal.note(f"The report is {out / 'report.html'}")
