"""`llavamed ask` without a question, on a terminal: question after question, with line editing and history."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from llavamed_cli.cli.ask_output import say, say_cut
from llavamed_cli.cli.terminal import Terminal
from llavamed_cli.cli.wrapping import AnswerPrinter
from llavamed_cli.errors import LlavamedError

if TYPE_CHECKING:
    from llavamed_cli.asking.commands import Conversation

WELCOME = "Ask about the picture. /help names the commands, Ctrl-D leaves."
PROMPT = ">>> "
LEAVE = ("/quit", "/exit", "/bye")
STOPPED = "[stopped]"


def converse(conversation: Conversation, terminal: Terminal) -> None:
    """Ask and answer until the person leaves; what fails is told, and the conversation goes on."""
    reader = _reader()
    terminal.note(WELCOME)
    while True:
        try:
            line = reader.prompt(PROMPT).strip()
        except KeyboardInterrupt:  # what was typed is dropped
            continue
        except EOFError:
            return
        if line in LEAVE:
            return
        if line:
            _take(conversation, line, terminal)


def _take(conversation: Conversation, line: str, terminal: Terminal) -> None:
    before = conversation.session.talk, conversation.session.decoding
    try:
        if not line.startswith("/"):
            _answer(conversation, line, terminal)
            return
        said = conversation.obey(line)
        if said is not None:
            print(said, flush=True)
            return
        _answer(conversation, conversation.retried(), terminal)
        conversation.session.decoding = before[1]
    except (LlavamedError, OSError) as error:  # the latter of a disk: a full one, a folder of somebody else
        conversation.session.talk, conversation.session.decoding = before
        print(error, file=sys.stderr, flush=True)
    except KeyboardInterrupt:  # while a picture is opened, or before an answer began
        conversation.session.talk, conversation.session.decoding = before
        print(STOPPED, file=sys.stderr, flush=True)


def _answer(conversation: Conversation, question: str, terminal: Terminal) -> None:
    """Print an answer as it comes; Ctrl-C ends it, and what was said until then stays said."""
    session = conversation.session
    printer = AnswerPrinter(sys.stdout)
    answered = True
    try:
        answered = say(session, question, conversation.decline_below, printer, terminal)
    except KeyboardInterrupt:
        printer.print(f" {STOPPED}")
    printer.end()
    conversation.answered_with = session.decoding
    if answered:
        say_cut(session, terminal)


def _reader() -> Any:
    """A line editor whose history lives as long as the conversation: questions about patients are not put on a disk."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import InMemoryHistory

    return PromptSession(history=InMemoryHistory())
