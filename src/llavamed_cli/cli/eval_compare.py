"""`llavamed eval compare A B`: two finished evaluations, question by question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from llavamed_cli.cli.eval_options import Markdown
from llavamed_cli.cli.options import Debug, Json, Quiet, Seed
from llavamed_cli.cli.terminal import Terminal

COMPARE = "compare"

Folder = Annotated[
    Path, typer.Argument(help="A folder that `llavamed eval` wrote and finished.", metavar="OUT", show_default=False)
]


def compare(
    first: Folder,
    second: Folder,
    markdown: Markdown = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two finished evaluations over the questions that both asked: scores, and differences with p.

    Nothing is asked and nothing is written. Both are scored anew, with this version's rules.
    """
    from llavamed_cli.evaluation.compare_runs import compare_runs, right_lines
    from llavamed_cli.evaluation.markdown import markdown_tables
    from llavamed_cli.evaluation.table import score_table

    terminal = Terminal(as_json=as_json, quiet=quiet)
    scores = compare_runs(first, second, seed)
    for title, read in scores["benchmarks"].items():
        for note in read["notes"]:
            terminal.note(f"{title}: {note}")
    text = markdown_tables(scores) if markdown else "\n".join((score_table(scores), "", *right_lines(scores)))
    terminal.result(text, scores)


class EvalCommand(TyperCommand):
    """`llavamed eval`, in which `compare` in the first place is a command of its own; a folder of that name is
    `./compare`."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """As click has it; the context of the other command where that is meant."""
        if args[:1] != [COMPARE]:
            return super().make_context(info_name, args, parent, **extra)
        alone = typer.Typer(add_completion=False, context_settings=dict(self.context_settings), rich_markup_mode="rich")
        alone.command()(compare)
        return typer.main.get_command(alone).make_context(f"{info_name} {COMPARE}", args[1:], parent, **extra)
