"""A JSON list read one value at a time, so that half a million records need no more memory than the longest of them."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llavamed_cli.errors import DataError
from llavamed_cli.files import json_fault, require_file

BLOCK_BYTES = 2**20
WHITE = " \t\n\r"
"""What may stand between JSON's tokens (RFC 8259, section 2)."""

LONGEST_WORD = 16
"""Characters. `-Infinity` and `\\uD83D\\uDE00` are shorter."""


def read_json_list(path: Path, what: str) -> Iterator[Any]:
    """Yield the values of the list that a JSON file holds, in order.

    Raises:
        UsageError: the file is absent. DataError: it is no JSON, from the line on where it stops being so, or no list.
    """
    with require_file(path, what).open("rb") as stream:
        yield from _Reader(stream, path, what).values()


class _Reader:
    """A window of text over a file: what is not yet read of it, and the line it begins on."""

    def __init__(self, stream: IO[bytes], path: Path, what: str) -> None:
        self._stream = stream
        self._path, self._what = path, what
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._parse = json.JSONDecoder().raw_decode
        self._text, self._place, self._line = "", 0, 1
        self._ended = False

    def values(self) -> Iterator[Any]:
        if self._next_sign() != "[":
            self._not_a_list()
        self._place += 1
        if self._next_sign() == "]":
            self._place += 1
        else:
            yield self._value()
            while (sign := self._next_sign()) == ",":
                self._place += 1
                yield self._value()
            if sign != "]":
                raise self._fault("Expecting ',' delimiter", self._place)
            self._place += 1
        if self._next_sign():
            raise self._fault("Extra data", self._place)

    def _value(self) -> Any:
        """The value that comes next. One near the end of the window may go on behind it, as `1e+9` does."""
        self._next_sign()
        wanted = BLOCK_BYTES
        while True:
            try:
                value, end = self._parse(self._text, self._place)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_go_on(error):
                    raise self._fault(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self._fault(json_fault(error), self._place) from error
            else:
                if end < len(self._text) - LONGEST_WORD or self._ended:
                    self._place = end
                    return value
            self._read(wanted)
            wanted *= 2  # what was parsed in vain is parsed anew: twice the window keeps that cost in proportion

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether more text could mend what is wrong: a string still open, or a word, number or escape cut short."""
        return error.msg.startswith("Unterminated string") or error.pos > len(self._text) - LONGEST_WORD

    def _next_sign(self) -> str:
        """Pass over white space; the character that follows, empty at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in WHITE:
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if self._ended:
                return ""
            self._read(BLOCK_BYTES)

    def _read(self, size: int) -> None:
        """Let go of what was read and add to the window."""
        block = self._stream.read(size)
        self._ended = not block
        self._line += self._text.count("\n", 0, self._place)
        try:
            self._text = self._text[self._place :] + self._decode.decode(block, final=self._ended)
        except UnicodeDecodeError as error:
            raise DataError(f"{self._what} is not UTF-8 text", where=str(self._path)) from error
        self._place = 0

    def _not_a_list(self) -> None:
        """Say what the file holds instead: its whole value is read for that, as it is no list of records."""
        value = self._value()
        if self._next_sign():
            fault = self._fault("Extra data", self._place)
            raise DataError(fault.what, where=fault.where, hint="One record a line? Then name the file .jsonl.")
        raise DataError(f"expected a JSON list of records, found {type(value).__name__}", where=str(self._path))

    def _fault(self, reason: str, place: int) -> DataError:
        line = self._line + self._text.count("\n", 0, place)
        return DataError(f"{self._what} is not JSON: {reason}", where=f"{self._path}:{line}")
