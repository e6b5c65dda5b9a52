"""The command's frame: help that is quick and complete, exit codes, and how a fault reaches the person."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import typer

from llavamed_cli import __version__
from llavamed_cli.cli import app as frame
from llavamed_cli.errors import DataError, UsageError

COMMANDS = [str(command.name) for command in frame.app.registered_commands]
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "numpy", "PIL", "lxml", "openai", "peft", "accelerate")

Run = Callable[..., Any]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make the command line end with an exception of our choice."""

    def install(error: BaseException) -> None:
        broken = typer.Typer(pretty_exceptions_enable=False)

        @broken.command()
        def fail(debug: bool = False) -> None:
            raise error

        monkeypatch.setattr(frame, "app", broken)

    return install


def test_the_commands_are_there() -> None:
    assert COMMANDS == ["build-data", "align", "tune", "eval", "ask", "convert"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_says_what_a_command_does(command: list[str], flag: str, llavamed: Run) -> None:
    outcome = llavamed(*command, flag)
    assert outcome.code == 0
    assert f"Usage: llavamed {' '.join(command)}".rstrip() in outcome.stdout
    if command:
        assert "Examples" in outcome.stdout
        assert f"llavamed {command[0]}" in outcome.stdout
    else:
        assert all(name in outcome.stdout for name in COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from llavamed_cli.cli.app import main\n"
        f"for command in ([], *([name] for name in {COMMANDS})):\n"
        "    assert main([*command, '--help']) == 0\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llavamed_cli", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"llavamed {__version__}")


def test_version(llavamed: Run) -> None:
    outcome = llavamed("--version")
    assert (outcome.code, outcome.stdout) == (0, f"llavamed {__version__}\n")


@pytest.mark.parametrize("line", [["frobnicate"], ["align", "--frobnicate"], ["align"], ["tune", "x", "--epochs", "y"]])
def test_bad_usage_is_2_and_said_on_stderr(line: list[str], llavamed: Run) -> None:
    outcome = llavamed(*line)
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert "Usage: llavamed" in outcome.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(DataError("it is torn", where="a.jsonl:3", hint="Mend it."), 1), (UsageError("no such thing"), 2)],
)
def test_a_fault_is_one_message(error: Exception, code: int, failing: Run, llavamed: Run) -> None:
    failing(error)
    outcome = llavamed()
    assert outcome.code == code
    assert outcome.stdout == ""
    assert outcome.stderr == f"llavamed: {error}\n"


def test_an_unexpected_exception_is_named_a_bug(failing: Run, llavamed: Run) -> None:
    failing(ZeroDivisionError("division by zero"))
    outcome = llavamed()
    assert outcome.code == 1
    assert "ZeroDivisionError: division by zero" in outcome.stderr
    assert "--debug" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), DataError("it is torn")])
def test_debug_lets_the_exception_through(error: Exception, failing: Run, llavamed: Run) -> None:
    failing(error)
    with pytest.raises(type(error)):
        llavamed("--debug")


def test_an_interrupt_is_130(failing: Run, llavamed: Run) -> None:
    failing(KeyboardInterrupt())
    assert llavamed().code == 130
