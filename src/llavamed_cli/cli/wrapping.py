"""Text that comes in pieces, wrapped between words to the terminal's width as it is now.

Letters are shown at once. A word that turns out not to fit is taken off its line and begins the next one, so this is
for terminals alone; elsewhere text goes out as it is.
"""

from __future__ import annotations

import os
import shutil
import unicodedata
from typing import TextIO

LEAST_COLUMNS = 10
"""On a narrower terminal nothing is wrapped between words."""
ERASE = "\x1b[{cells}D\x1b[K"


class AnswerPrinter:
    """Prints pieces to a stream; wraps them where it is a terminal that can take back a word.

    Control characters, with which a text could steer a terminal, are not sent to one.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._column = 0
        self._word = ""
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an encoding that lacks a character is no reason to fail

    def print(self, piece: str) -> None:
        """One more piece, at once."""
        text = self._wrapped(piece) if self._terminal else piece
        self._stream.write(text)
        self._stream.flush()

    def end(self) -> None:
        """The end of the text's last line."""
        self._stream.write("\n")
        self._stream.flush()
        self._column, self._word = 0, ""

    def _wrapped(self, piece: str) -> str:
        columns = shutil.get_terminal_size().columns
        return "".join(self._placed(sign, columns) for sign in piece if sign in "\n\t" or _is_visible(sign))

    def _placed(self, sign: str, columns: int) -> str:
        """What to send so that `sign` stands where it belongs."""
        if sign == "\n":
            self._column, self._word = 0, ""
            return sign
        if sign in " \t":
            self._word = ""
            if self._column >= columns - 1:  # a line's end stands for the space
                return self._new_line()
            self._column += 1
            return " "
        width = cells(sign)
        before = ""
        if self._column + width > columns and columns >= LEAST_COLUMNS:
            before = self._moved(columns)
        self._column += width
        self._word = "" if width == 2 else self._word + sign  # Chinese may break after every character
        return before + sign

    def _moved(self, columns: int) -> str:
        """Take the word begun to a new line, if it fits there; else break it."""
        word, size = self._word, sum(cells(sign) for sign in self._word)
        if not word or size >= self._column or size >= columns:
            return self._new_line()
        self._column = size
        return ERASE.format(cells=size) + "\n" + word

    def _new_line(self) -> str:
        self._column, self._word = 0, ""
        return "\n"


def cells(sign: str) -> int:
    """How many columns a character takes."""
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def _is_visible(sign: str) -> bool:
    return unicodedata.category(sign) not in ("Cc", "Cf", "Cs")
