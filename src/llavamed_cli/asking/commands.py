"""What may be typed in a conversation beside questions: lines that begin with a slash, each doing one thing to it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from llavamed_cli.asking.session import Session
from llavamed_cli.asking.talk import Talk
from llavamed_cli.conversation_format import sample_to_json
from llavamed_cli.errors import UsageError
from llavamed_cli.files import write_json, write_text
from llavamed_cli.model.decoding import Decoding
from llavamed_cli.model.picture import Picture
from llavamed_cli.records import IMAGE_MARKER, Sample

HELP = """\
/image FILE...   show another picture; the next question is about it too
/new FILE...     begin again with these pictures alone
/reset           begin again with the same pictures
/retry           take the last question back and ask it again, drawing other words
/save FILE       write the conversation: .json as data to train on, anything else as text
/copy-command    print the one-shot command that asks the last question
/help            this
Ctrl-C stops an answer, Ctrl-D leaves. Nothing that is typed is kept."""

RETRY_TEMPERATURE = 0.7
"""Of a second try where answers are greedy, and the same answer would come again."""

OpenPictures = Callable[[Sequence[str]], tuple[Picture, ...]]


@dataclass(kw_only=True)
class Conversation:
    """A session with the names of what it was shown.

    places: of `session.talk`'s pictures, waiting ones too, as they were typed. open_pictures: opens what is named.
    options: of the command that began it, but those of decoding, for `/copy-command`.
    decline_below: how sure an answer must be to be told. answered_with: how the last answer was decoded.
    """

    session: Session
    places: list[str]
    open_pictures: OpenPictures
    options: Sequence[str] = ()
    decline_below: float | None = None
    answered_with: Decoding | None = field(default=None, init=False)
    retries: int = field(default=0, init=False)

    def obey(self, line: str) -> str | None:
        """Do what a slash command says; return what is to be said, None for `/retry`, which asks `retried` again.

        Raises:
            UsageError: there is no such command, or it needs something else. PictureError: a picture cannot be opened.
        """
        try:
            name, *words = shlex.split(line)
        except ValueError as error:
            raise UsageError(f"{line}: {error}", hint="Put names with blanks in quotes.") from error
        commands: dict[str, Callable[[Sequence[str]], str | None]] = {
            "/image": self._image,
            "/new": self._new,
            "/reset": self._reset,
            "/retry": self._retry,
            "/save": self._save,
            "/copy-command": self._copy_command,
            "/help": lambda words: HELP,
        }
        if name not in commands:
            near = get_close_matches(name, commands, n=1)
            raise UsageError(f"no command is called {name}", hint=f"Did you mean {near[0]}?" if near else "See /help.")
        return commands[name](words)

    @property
    def talk(self) -> Talk:
        return self.session.talk

    def _image(self, words: Sequence[str]) -> str:
        shown = self.open_pictures(_some(words, "/image FILE"))
        self.session.talk = self.talk.showing(shown)
        self.places += words
        return f"The next question is about {_told(words)} too." if self.talk.turns else f"Shown: {_told(self.places)}."

    def _new(self, words: Sequence[str]) -> str:
        shown = self.open_pictures(_some(words, "/new FILE"))
        self.session.talk = Talk().showing(shown)
        self.places = list(words)
        return f"Begun again, with {_told(words)} alone."

    def _reset(self, words: Sequence[str]) -> str:
        self.session.talk = self.talk.begun_again()
        return f"Begun again, with {_told(self.places)}."

    def _retry(self, words: Sequence[str]) -> None:
        if self.talk.last_question is None:
            raise UsageError("there is nothing to retry: no question was asked yet")
        self.retries += 1

    def retried(self) -> str:
        """Take the last question back for `/retry`, let other words be drawn for it, and return it."""
        question = self.talk.last_question
        assert question is not None  # `_retry` had refused
        self.session.talk = self.talk.taken_back()
        now = self.session.decoding
        self.session.decoding = replace(
            now, temperature=now.temperature or RETRY_TEMPERATURE, seed=now.seed + self.retries
        )
        return question

    def _save(self, words: Sequence[str]) -> str:
        if len(words) != 1:
            raise UsageError("expected one file", where="/save")
        file = Path(words[0]).expanduser()
        if not self.talk.turns:
            raise UsageError("nothing was said yet", where="/save")
        if file.exists():
            raise UsageError("it is there already, and is left as it is", where=words[0], hint="Name another file.")
        if not file.parent.is_dir():
            raise UsageError("there is no such folder", where=str(file.parent))
        if file.suffix == ".json":
            write_json(file, [self._as_data()])
        else:
            write_text(file, self._as_text())
        return f"Saved as {file}."

    def _as_data(self) -> dict[str, Any]:
        """The conversation as a record to train on."""
        asked = self.places[: len(self.talk.pictures)]
        return sample_to_json(Sample(id="conversation", images=tuple(asked), turns=self.talk.turns))

    def _as_text(self) -> str:
        lines = [f"Pictures: {_told(self.places)}"]
        for turn in self.talk.turns:
            text = turn.text.replace(IMAGE_MARKER, "").strip()
            lines.append(f"\n> {text}\n" if turn.speaker == "human" else text)
        return "\n".join([*lines, "", "Research use only: not a medical device.", ""])

    def _copy_command(self, words: Sequence[str]) -> str:
        question = self.talk.last_question
        if question is None:
            raise UsageError("no question was asked yet", where="/copy-command")
        shown = self.places[: len(self.talk.pictures)]
        decoding = _decoding_options(self.answered_with or self.session.decoding)
        command = shlex.join(["llavamed", "ask", *shown, "-q", question, *self.options, *decoding])
        earlier = len(self.talk.turns) // 2 - 1
        return command + (f"\n(without the {earlier} question(s) before it)" if earlier > 0 else "")


def _decoding_options(decoding: Decoding) -> list[str]:
    """What is not as it is anyway, as the command line has it."""
    usual, given = asdict(Decoding()), asdict(decoding)
    changed = {name: value for name, value in given.items() if value != usual[name]}
    return [part for name, value in changed.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def _some(words: Sequence[str], usage: str) -> Sequence[str]:
    if not words:
        raise UsageError("no picture is named", hint=f"{usage} shows one.")
    return words


def _told(places: Sequence[str]) -> str:
    return ", ".join(places)
