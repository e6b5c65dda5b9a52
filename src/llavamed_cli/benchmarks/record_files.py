"""Records of a benchmark's file: a JSON list or JSON Lines, plain or packed with gzip, which is unpacked up to a limit.

Pickles, in which PathVQA was first published, are never opened: opening one runs whatever program it holds.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.files import parse_json, parse_jsonl, read_json, read_jsonl, require_file
from llavamed_cli.records import Fault

ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
PICKLES = (".pkl", ".pickle", ".p")
UNPACKED_LIMIT = 2**29
"""Bytes. SLAKE's largest file has 3 million; a gzip file of 1 MB may unpack to 1 GB."""


def is_pickle(file: Path) -> bool:
    """Whether a file's name says that it is a pickle."""
    return file.suffix.lower() in PICKLES


def refuse_pickle(file: Path) -> UsageError:
    """Why a pickle is not read, and what to do."""
    return UsageError(
        "this is a pickle: opening one runs the program in it, so none is opened",
        where=str(file),
        hint="Give JSON, JSON Lines or Parquet. If you trust its author, turn it into JSON yourself: "
        f"python -c \"import json, pickle; json.dump(pickle.load(open('{file.name}', 'rb')), "
        f"open('{file.with_suffix('.json').name}', 'w'))\"",
    )


def read_records(file: Path, what: str, on_fault: Callable[[Fault], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, object): `file:line`, or `file, record N` counted from 0 in a list. Others go to `on_fault`.

    Raises:
        UsageError: the file is absent, or a pickle. DataError: it is no list of JSON, or unpacks to too much.
    """
    if is_pickle(require_file(file, what)):
        raise refuse_pickle(file)
    packed = file.suffix.lower() == ".gz"
    name = file.name.lower().removesuffix(".gz")
    if name.endswith(".jsonl"):
        lines = parse_jsonl(_unpacked_lines(file), file, on_fault) if packed else read_jsonl(file, on_fault)
        yield from ((f"{file}:{line}", record) for line, record in lines)
        return
    whole = parse_json(_unpacked(file), file, what) if packed else read_json(file, what)
    if not isinstance(whole, list):
        raise DataError(f"expected a JSON list of records, found {type(whole).__name__}", where=str(file))
    if not whole:
        raise DataError(f"this {what} holds no record", where=str(file))
    for index, record in enumerate(whole):
        where = f"{file}, record {index}"
        if isinstance(record, dict):
            yield where, record
        else:
            on_fault(Fault(where=where, reason=f"expected an object, found {type(record).__name__}"))


def _unpacked(file: Path) -> bytes:
    with gzip.open(file) as stream:
        data = _read(stream.read, UNPACKED_LIMIT + 1, file)
    if len(data) > UNPACKED_LIMIT:
        raise _too_much(file)
    return data


def _unpacked_lines(file: Path) -> Iterator[bytes]:
    left = UNPACKED_LIMIT
    with gzip.open(file) as stream:
        opened: IO[bytes] = stream  # type: ignore[assignment]
        while line := _read(opened.readline, left + 1, file):
            left -= len(line)
            if left < 0:
                raise _too_much(file)
            yield line


def _read(read: Callable[[int], bytes], size: int, file: Path) -> bytes:
    try:
        return read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"not a whole gzip file: {error}", where=str(file)) from error


def _too_much(file: Path) -> DataError:
    return DataError(
        f"it unpacks to more than {UNPACKED_LIMIT // 2**20:,} MiB, which no known benchmark does",
        where=str(file),
        hint="If that is right, unpack it first and name the unpacked file.",
    )
