"""The faults a person can meet, each said as: where, what, and what to do next.

    LlavamedError            exit code 1: something failed
    ├── UsageError           exit code 2: what was typed cannot be done
    │   └── OutputFolderError    the output folder belongs to another run, or to something else
    ├── DataError            a file or a record in it is not what it should be
    ├── PictureError         a picture cannot be opened
    ├── FetchError           a server of articles cannot be reached, or does not serve
    ├── ModelError           a model folder or name cannot be loaded, or lacks a part
    ├── EndpointError        a paid server does not serve, or the budget is reached; what was paid for is kept
    └── TrainingError        training cannot go on (no usable sample, a loss that is not a number)

Anything else that reaches the terminal is a bug in llavamed; `--debug` shows its traceback.
"""

from __future__ import annotations


class LlavamedError(Exception):
    """Base of every fault that is explained instead of shown as a traceback.

    Args:
        what: one sentence: what was wrong, and what was expected.
        where: the file, `file:line` or record it was found in.
        hint: what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.what}{advice}"


class UsageError(LlavamedError):
    """What was typed cannot be done: an unknown name, a missing file, options that contradict."""

    exit_code = 2


class OutputFolderError(UsageError):
    """The output folder holds another run's work, or files that no run of ours wrote."""


class DataError(LlavamedError):
    """A data file, or a record in it, is not what it should be."""


class PictureError(LlavamedError):
    """A picture cannot be opened as one."""


class FetchError(LlavamedError):
    """A server cannot be reached, or does not serve; the command may be repeated."""


class ModelError(LlavamedError):
    """A model cannot be loaded, or lacks a part (weights, tokenizer, chat template)."""


class EndpointError(LlavamedError):
    """A server that is asked refuses or fails for good, or the next question would pass the budget."""


class TrainingError(LlavamedError):
    """Training cannot start or go on."""


def first_line(error: BaseException) -> str:
    """The first line of another library's error, to quote in one of ours."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
