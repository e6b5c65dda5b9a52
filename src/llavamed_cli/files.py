"""Files in and out: JSON Lines that name the line of a fault, and writes that are whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from llavamed_cli.errors import DataError, UsageError
from llavamed_cli.records import Fault

WHOLE_FILE_HASH_LIMIT = 64 * 2**20
EDGE_BYTES = 2**20


def require_file(path: Path, what: str) -> Path:
    """Return `path` if it is a file; otherwise raise UsageError naming `what` was expected there."""
    if path.is_file():
        return path
    state = "is a folder" if path.is_dir() else "does not exist"
    raise UsageError(f"{what} {state}", where=str(path), hint="Check the path.")


def read_json(path: Path, what: str) -> Any:
    """Parse a whole JSON file. Raises UsageError if it is absent, DataError with the line if it is no JSON."""
    return parse_json(require_file(path, what).read_bytes(), path, what)


def parse_json(data: bytes, path: Path, what: str) -> Any:
    """Parse JSON that was read from `path`. Raises DataError with the line if it is none."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{what} is not JSON: {error.msg}", where=f"{path}:{error.lineno}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is not UTF-8 text", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is not JSON: {json_fault(error)}", where=str(path)) from error


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Parse a TOML file. Raises UsageError if it is absent, DataError if it is no TOML."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(require_file(path, what).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{what} is not TOML: {error}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is not TOML: {json_fault(error)}", where=str(path)) from error


def read_jsonl(path: Path, on_fault: Callable[[Fault], None]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a JSON Lines file; blank lines are skipped.

    A line that is no JSON object is handed to `on_fault` and passed over, so that the good ones are kept.
    """
    with require_file(path, "JSON Lines file").open("rb") as stream:
        yield from parse_jsonl(stream, path, on_fault)


def parse_jsonl(
    lines: Iterable[bytes], path: Path, on_fault: Callable[[Fault], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """As `read_jsonl`, of lines that were read from `path` already."""
    for number, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        try:
            value = json.loads(raw.decode("utf-8-sig"))
        except UnicodeDecodeError:
            on_fault(Fault(where=f"{path}:{number}", reason="not UTF-8 text"))
            continue
        except (ValueError, RecursionError) as error:
            on_fault(Fault(where=f"{path}:{number}", reason=f"not JSON: {json_fault(error)}"))
            continue
        if not isinstance(value, dict):
            on_fault(Fault(where=f"{path}:{number}", reason=f"expected an object, found {type(value).__name__}"))
            continue
        yield number, value


def cut_torn_line(path: Path) -> None:
    """Take away what follows the last line break: a process was killed while it wrote a line."""
    written = path.read_bytes()
    whole = written.rfind(b"\n") + 1
    if whole < len(written):
        with path.open("r+b") as stream:
            stream.truncate(whole)


def json_fault(error: ValueError | RecursionError) -> str:
    """What ails a JSON text: beside bad syntax, Python refuses integers beyond 4,300 digits and very deep nesting."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"


@contextmanager
def atomic_write(path: Path, mode: str = "w", *, durable: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its place only when the block ends without an error.

    durable: wait until the disk has it, so that a power cut cannot leave an empty file in its place. That takes
        milliseconds: too long for one of millions that can be made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_place(path: Path) -> Iterator[Path]:
    """A name beside `path` for a library to write a file to; it takes `path`'s place when the block ends well.

    What a process that was killed in the block left behind is removed.
    """
    for remains in path.parent.glob(f".{path.name}.*.part"):
        remains.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def umask() -> int:
    """The process's umask (mkstemp ignores it, and files that others cannot read surprise shared servers)."""
    current = os.umask(0)
    os.umask(current)
    return current


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, in UTF-8."""
    with atomic_write(path) as stream:
        stream.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON."""
    write_text(path, _dumps(value, indent=2) + "\n")


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write `records` atomically, one a line; return how many there were."""
    count = 0
    with atomic_write(path) as stream:
        for record in records:
            stream.write(json_line(record))
            count += 1
    return count


def json_line(record: dict[str, Any]) -> str:
    """One record as a line of JSON Lines."""
    return _dumps(record) + "\n"


def _dumps(value: Any, indent: int | None = None) -> str:
    """JSON text. Lone surrogates (as in a path that is no UTF-8), which UTF-8 cannot hold, are written as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := stream.read(EDGE_BYTES):
        digest.update(block)
    return digest.hexdigest()


def fingerprint(path: Path) -> str:
    """A SHA-256 that changes when a file, or any file in a folder (not in hidden ones), changes.

    Files above 64 MiB count by name, size, and first and last MiB: a 15 GB checkpoint is told apart in a second.
    """
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path)
        if any(part.startswith(".") for part in name.parts):
            continue
        digest.update(f"{name.as_posix()}\0{file.stat().st_size}\0{_edge_sha256(file)}\n".encode())
    return digest.hexdigest()


def _edge_sha256(file: Path) -> str:
    if file.stat().st_size <= WHOLE_FILE_HASH_LIMIT:
        return file_sha256(file)
    with file.open("rb") as stream:
        head = stream.read(EDGE_BYTES)
        stream.seek(-EDGE_BYTES, os.SEEK_END)
        return hashlib.sha256(head + stream.read(EDGE_BYTES)).hexdigest()
