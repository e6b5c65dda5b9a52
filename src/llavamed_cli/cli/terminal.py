"""What a person sees: results alone on stdout; notes, bars and faults on stderr, silent where nobody looks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any

from llavamed_cli.garbage import collection_put_off
from llavamed_cli.progress import Bar
from llavamed_cli.records import Fault

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

FAULTS_SHOWN = 10
PATIENCE = 1.0
"""Seconds without a word after which somebody who waits is shown that work goes on."""


@dataclass
class _TerminalBar:
    display: RichProgress
    task: TaskID

    def advance(self, amount: int = 1, **figures: str) -> None:
        self.display.update(self.task, advance=amount)
        if figures:
            shown = "  ".join(f"{name} {value}" for name, value in figures.items())
            self.display.update(self.task, figures=shown)


class _QuietBar:
    def advance(self, amount: int = 1, **figures: str) -> None:
        return


class _SignOfLife:
    """Shown by a timer's thread and ended by the one that waits, once."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = Lock()
        self._ended = False
        self._display: RichProgress | None = None

    def show(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn())
        console = Console(stderr=True)
        display = Progress(*columns, console=console, transient=True, redirect_stdout=False)
        display.add_task(self._what, total=None)
        with self._lock:
            if not self._ended:
                display.start()
                self._display = display

    def end(self) -> None:
        with self._lock:
            if self._display is not None and not self._ended:
                self._display.stop()
            self._ended = True


@dataclass(frozen=True)
class Terminal:
    """Implements `llavamed_cli.progress.Progress`.

    as_json: stdout carries one JSON value instead of text. quiet: notes and bars are left out, faults are not.
    silent: nothing is said at all: several processes do one command, and another of them speaks.
    """

    as_json: bool = False
    quiet: bool = False
    silent: bool = False

    @property
    def is_read(self) -> bool:
        """Whether a person reads the notes."""
        return sys.stderr.isatty() and not (self.quiet or self.silent)

    def note(self, message: str) -> None:
        """One line on stderr."""
        if not (self.quiet or self.silent):
            print(message, file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        """One line on stderr that --quiet does not silence."""
        if not self.silent:
            print(message, file=sys.stderr, flush=True)

    def faults(self, faults: Sequence[Fault], kept: int, total: int | None = None) -> None:
        """Say how many records were set aside (total, where `faults` holds only the first), and name the first."""
        if not faults:
            return
        count = len(faults) if total is None else total
        self.warn(f"{count} record(s) set aside, {kept} kept:")
        for fault in faults[:FAULTS_SHOWN]:
            self.warn(f"  {fault}")
        if count > FAULTS_SHOWN:
            self.warn(f"  and {count - FAULTS_SHOWN} more")

    @collection_put_off()
    def quiet_libraries(self) -> None:
        """Keep the libraries' own bars and advice off the terminal: this layer has its own."""
        import logging

        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

    @contextmanager
    def waiting(self, what: str) -> Iterator[Callable[[], None]]:
        """A sign of life on stderr, with the time it takes, after a second in which nothing was said.

        It goes when the function that is given is called, or else at the end, and leaves no trace.
        """
        if not self.is_read:
            yield lambda: None
            return
        sign = _SignOfLife(what)
        timer = Timer(PATIENCE, sign.show)
        timer.daemon = True
        timer.start()
        try:
            yield sign.end
        finally:
            timer.cancel()
            sign.end()

    def result(self, text: str, value: Any) -> None:
        """The result, on stdout: `text` for people, `value` as one JSON document under --json."""
        if not self.silent:
            print(json.dumps(value, ensure_ascii=False) if self.as_json else text, flush=True)

    @contextmanager
    def bar(self, label: str, total: int | None, done: int = 0) -> Iterator[Bar]:
        """A bar with rate and time left on stderr; nothing where stderr is no terminal."""
        if self.quiet or self.silent or not sys.stderr.isatty():
            yield _QuietBar()
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{task.speed:.2f}/s" if task.speed else "")

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            Rate(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as display:
            task = display.add_task(label, total=total, completed=done, figures="")
            yield _TerminalBar(display, task)
