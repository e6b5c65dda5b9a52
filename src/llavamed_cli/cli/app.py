"""The `llavamed` command: its subcommands, and how a fault reaches the person."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from llavamed_cli.cli import align, ask, build_data, convert, tune
from llavamed_cli.cli import eval as evaluate
from llavamed_cli.cli.eval_compare import EvalCommand
from llavamed_cli.errors import LlavamedError
from llavamed_cli.garbage import leave_garbage

BUG_ADVICE = "This is a bug in llavamed. Run it again with --debug for the traceback, and report that."

app = typer.Typer(
    name="llavamed",
    help="Build, train, evaluate and ask biomedical vision-language models. Research use only, not a medical device.",
    epilog="build-data -> align -> tune -> eval, and ask. Each command reads folders and writes one.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from llavamed_cli import __version__

        typer.echo(f"llavamed {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    return


DATA, TRAINING, USE = "1. Data", "2. Training", "3. Use"
app.command("build-data", rich_help_panel=DATA, epilog=build_data.EXAMPLES)(build_data.build_data)
app.command("align", rich_help_panel=TRAINING, epilog=align.EXAMPLES)(align.align)
app.command("tune", rich_help_panel=TRAINING, epilog=tune.EXAMPLES)(tune.tune)
app.command("eval", cls=EvalCommand, rich_help_panel=USE, epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command("ask", rich_help_panel=USE, epilog=ask.EXAMPLES)(ask.ask)
app.command("convert", rich_help_panel=USE, epilog=convert.EXAMPLES)(convert.convert)


def main(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code (0 done, 1 failed, 2 bad usage, 130 interrupted)."""
    debug = "--debug" in arguments
    try:
        app(args=list(arguments), prog_name="llavamed")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except LlavamedError as error:
        if debug:
            raise
        print(f"llavamed: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if debug:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"llavamed: {place}{error.strerror or error}", file=sys.stderr)  # a full disk, a folder not ours
        return 1
    except Exception as error:
        if debug:
            raise
        print(f"llavamed: {type(error).__name__}: {error}\n  {BUG_ADVICE}", file=sys.stderr)
        return 1
    return 0


def run() -> None:
    """The entry point of the installed command."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # tokenizers warns when a data worker forks
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' own bars; the terminal layer has its own
    code = main(sys.argv[1:])
    leave_garbage()
    sys.exit(code)
